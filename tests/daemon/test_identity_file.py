"""A node in one file: what comes out is what went in, and nothing else comes out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.daemon import identity_file
from meshd.daemon.identity_file import MAGIC, open_sealed, read, seal

SEED = b"s" * 32
ROWS = [("mesh", b"mesh", b"row"), ("inbox", b"", b""), ("records", b"k" * 32, b"v" * 70_000)]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_file, "SCRYPT_COST", 1 << 4)


def test_what_comes_out_is_what_went_in() -> None:
    data = seal(SEED, ROWS, "open sesame, please")
    assert read(open_sealed(data, "open sesame, please")) == (SEED, ROWS)
    assert SEED not in data
    assert seal(SEED, ROWS, "open sesame, please") != data


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(ValueError, match="passphrase is wrong"):
        open_sealed(seal(SEED, [], "open sesame"), "open sesame!")


def test_every_changed_byte_is_refused() -> None:
    data = seal(SEED, [("mesh", b"m", b"x")], "open sesame")
    for at in range(len(data)):
        with pytest.raises(ValueError, match=r"damaged|no file"):
            open_sealed(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], "open sesame")
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"damaged|no file"):
            open_sealed(data[:size], "open sesame")


@given(st.binary())
def test_any_bytes_are_a_node_or_a_value_error(data: bytes) -> None:
    for attempt in (lambda: read(data), lambda: open_sealed(MAGIC + data, "x" * 8)):
        with suppress(ValueError):
            attempt()
