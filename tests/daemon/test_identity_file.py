"""A node in one file: what comes out is what went in, and nothing else comes out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.daemon import identity_file
from meshd.daemon.identity_file import MAGIC, Contents, open_sealed, read, seal
from meshd.wire.codec import pack

SEED = b"s" * 32
ROWS = [("mesh", b"mesh", b"row"), ("inbox", b"", b""), ("records", b"k" * 32, b"v" * 70_000)]
TABLES = frozenset({"mesh", "inbox", "records"})


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_file, "SCRYPT_COST", 1 << 4)


def test_what_comes_out_is_what_went_in() -> None:
    data = seal(SEED, 3, ROWS, "open sesame, please")
    assert read(open_sealed(data, "open sesame, please"), 3, TABLES) == Contents(SEED, 3, ROWS)
    assert SEED not in data
    assert seal(SEED, 3, ROWS, "open sesame, please") != data


def test_a_file_of_a_newer_daemon_is_refused_as_that() -> None:
    data = open_sealed(seal(SEED, 3, ROWS, "open sesame"), "open sesame")
    for version, tables, missing in ((2, TABLES, "version 3"), (3, TABLES - {"inbox"}, "table inbox")):
        with pytest.raises(ValueError, match=f"A newer meshd .* {missing}. Install that one first"):
            read(data, version, tables)
    assert read(data, 4, TABLES - {"inbox"}).rows == ROWS, "an older one's, for a migration"


def test_the_first_files_said_no_version() -> None:
    plain = b"".join(
        len(entry).to_bytes(4, "big") + entry for entry in (pack(["", b"identity", SEED]), pack(list(ROWS[0])))
    )
    assert read(plain, 3, TABLES) == Contents(SEED, 2, ROWS[:1])


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(ValueError, match="passphrase is wrong"):
        open_sealed(seal(SEED, 3, [], "open sesame"), "open sesame!")


def test_every_changed_byte_is_refused() -> None:
    data = seal(SEED, 3, [("mesh", b"m", b"x")], "open sesame")
    for at in range(len(data)):
        with pytest.raises(ValueError, match=r"damaged|no file"):
            open_sealed(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], "open sesame")
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"damaged|no file"):
            open_sealed(data[:size], "open sesame")


@given(st.binary())
def test_any_bytes_are_a_node_or_a_value_error(data: bytes) -> None:
    for attempt in (lambda: read(data, 3, TABLES), lambda: open_sealed(MAGIC + data, "x" * 8)):
        with suppress(ValueError):
            attempt()
