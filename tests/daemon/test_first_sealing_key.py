"""Where the first sealing key comes from, and that it is kept in one place alone."""

from pathlib import Path

import pytest

from meshd.core.commands import Delete, Persist
from meshd.core.state import MAX_ROW_SIZE, TABLES, SealingKeyRow
from meshd.crypto import sealing
from meshd.daemon import keys
from meshd.daemon.keys import IdentityKeys
from meshd.daemon.lifecycle import first_sealing_seed
from meshd.daemon.store import DATABASE_FILE, Store
from meshd.ids import Ticket
from meshd.wire.codec import decode


def write(path: Path, identity: IdentityKeys) -> None:
    path.write_text(keys.render(identity))
    path.chmod(0o600)


def prepared(state: Path, identity: IdentityKeys) -> tuple[bytes, dict[bytes, bytes]]:
    """The seed for the suite, and the table, as at a start."""
    store = Store.open(state, TABLES)
    try:
        stored = store.load()
        seed = first_sealing_seed(store, stored, identity)
        assert store.load() == stored
        return seed, stored["sealing_keys"]
    finally:
        store.close()


@pytest.mark.parametrize("given", [None, b"s" * 32])
def test_it_is_in_the_store_before_anything_begins_and_nowhere_else(tmp_path: Path, given: bytes | None) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    identity = IdentityKeys(bytes(32), given)
    write(state / keys.KEY_FILE, identity)
    seed, table = prepared(state, identity)
    assert given in (None, seed)
    assert list(table) == [sealing.public_of(seed)]
    assert decode(SealingKeyRow, table[sealing.public_of(seed)], MAX_ROW_SIZE).seed == seed
    assert keys.load(state, {}) == IdentityKeys(bytes(32))
    assert prepared(state, keys.load(state, {}))[1] == table, "the store's is what counts from now on"


def test_an_erased_key_is_not_left_in_free_pages(tmp_path: Path) -> None:
    state = tmp_path / "state"
    _, table = prepared(state, IdentityKeys(bytes(32), b"to be erased, and nowhere found!"))
    store = Store.open(state, TABLES)
    assert b"to be erased" in b"".join(file.read_bytes() for file in state.iterdir())
    store._write([Persist(Ticket(1), (Delete("sealing_keys", next(iter(table))),))])
    store.close()  # which brings the log's pages into the database
    assert (state / DATABASE_FILE).exists()
    assert b"to be erased" not in b"".join(file.read_bytes() for file in state.iterdir())
