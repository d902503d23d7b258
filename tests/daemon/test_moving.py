"""A move that goes wrong: what has stopped, what is left, and that it is said."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshd.control.passing import Passed
from meshd.core.state import TABLES
from meshd.daemon import identity_file
from meshd.daemon.moving import INCOMING_FILE, MOVED_FILE, Moving, take_over
from meshd.daemon.schema import MIGRATIONS
from meshd.daemon.store import Store
from meshd.errors import Code, ControlError, StoreError

PASSPHRASE = "correct horse battery"
PARAMS = {"passphrase": PASSPHRASE, "move": True}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    store = Store.open(path, TABLES)
    yield store
    store.close()


class House:
    """What is around a node that moves."""

    def __init__(self, store: Store, *, slow: bool = False) -> None:
        self.did: list[str] = []
        self.slow = slow
        self.state = "member"
        self.moving = Moving(store, b"s" * 32, False, lambda: self.state, self.stop, lambda: self.did.append("ended"))

    async def stop(self) -> None:
        self.did.append("stopped")
        if self.slow:
            raise trio.TooSlowError

    async def refusal(self, method: str, fd: int) -> Code:
        ours, theirs = trio.socket.socketpair()
        with ours, theirs, pytest.raises(ControlError) as refused:
            await self.moving.call(method, PARAMS, Passed(fd, ours))
        return refused.value.code


async def test_a_pipe_is_refused_before_anything_stops(store: Store) -> None:
    house = House(store)
    reader, writer = os.pipe()
    try:
        assert await house.refusal("identity.export", writer) is Code.INVALID_PARAMS
        house.state = "no_mesh"
        with trio.fail_after(5):
            assert await house.refusal("identity.import", reader) is Code.INVALID_PARAMS  # and nobody waits for its end
    finally:
        os.close(reader)
        os.close(writer)
    assert house.did == []


async def test_no_file_without_the_last_changes(store: Store, tmp_path: Path) -> None:
    house = House(store, slow=True)
    with (tmp_path / "laptop.meshid").open("wb") as file:
        assert await house.refusal("identity.export", file.fileno()) is Code.STORE_FAILED
        assert os.fstat(file.fileno()).st_size == 0
    assert house.did == ["stopped", "ended"]
    assert not (store.path / MOVED_FILE).exists()


async def test_a_member_takes_nobody_in(store: Store, tmp_path: Path) -> None:
    with (tmp_path / "laptop.meshid").open("wb") as file:
        assert await House(store).refusal("identity.import", file.fileno()) is Code.IN_MESH


async def test_nobody_is_taken_in_while_a_join_is_under_way(store: Store, tmp_path: Path) -> None:
    house = House(store)
    house.state = "joining"
    with (tmp_path / "laptop.meshid").open("wb") as file:
        assert await house.refusal("identity.import", file.fileno()) is Code.BUSY


async def test_who_waits_to_take_over_keeps_this_node_from_joining(store: Store, tmp_path: Path) -> None:
    """Or what it joined would be gone at the restart."""
    house = House(store)
    house.state = "no_mesh"
    house.moving.check("mesh.join")
    path = tmp_path / "laptop.meshid"
    path.write_bytes(identity_file.seal(b"t" * 32, store.version, [("mesh", b"mesh", b"row")], PASSPHRASE))
    ours, theirs = trio.socket.socketpair()
    with ours, theirs, path.open("rb") as file:
        result = await house.moving.call("identity.import", PARAMS, Passed(file.fileno(), ours))
    assert result["rows"] == 1
    for method in ("mesh.found", "mesh.join", "links.offer", "links.accept"):
        with pytest.raises(ControlError, match="takes over at the next start"):
            house.moving.check(method)
    house.moving.check("node.status")
    assert house.moving.warnings
    (store.path / INCOMING_FILE).unlink()
    house.moving.check("mesh.join")
    assert not house.moving.warnings


def bring(store: Store, version: int, rows: list[identity_file.Row]) -> None:
    """Have a node wait there as an import leaves it."""
    sealed = identity_file.seal(b"t" * 32, version, rows, PASSPHRASE)
    (store.path / INCOMING_FILE).write_bytes(identity_file.open_sealed(sealed, PASSPHRASE))


def test_what_was_brought_and_cannot_be_read_is_said(store: Store) -> None:
    (store.path / INCOMING_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be taken in"):
        take_over(store)


def test_what_a_newer_meshd_has_written_changes_nothing(store: Store) -> None:
    """Such as a table that this one would drop: who was revoked, for instance."""
    bring(store, store.version + 1, [("suspects", b"k", b"v")])
    with pytest.raises(StoreError, match="newer meshd has written the file"):
        take_over(store)
    assert (store.path / INCOMING_FILE).exists()
    assert not any(store.load().values())


def test_what_an_older_meshd_has_written_is_migrated(tmp_path: Path) -> None:
    def letters_become_the_inbox(connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'letters'").fetchone():
            connection.execute('INSERT INTO "inbox" SELECT key, upper(value) FROM "letters"')

    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    store = Store.open(path, TABLES, migrations=(*MIGRATIONS, letters_become_the_inbox))
    bring(store, len(MIGRATIONS), [("letters", b"k", b"v"), ("inbox", b"l", b"w")])
    take_over(store)
    assert store.load()["inbox"] == {b"k": "V", b"l": b"w"}
    assert not (path / INCOMING_FILE).exists()
    store.close()
