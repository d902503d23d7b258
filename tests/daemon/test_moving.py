"""A move that goes wrong: what has stopped, what is left, and that it is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshd.control.passing import Passed
from meshd.core.state import TABLES
from meshd.daemon.moving import INCOMING_FILE, MOVED_FILE, Moving, take_over
from meshd.daemon.store import Store
from meshd.errors import Code, ControlError, StoreError

PARAMS = {"passphrase": "correct horse battery", "move": True}


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
        self.moving = Moving(store, b"s" * 32, False, lambda: True, self.stop, lambda: self.did.append("ended"))

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


def test_what_was_brought_and_cannot_be_read_is_said(store: Store) -> None:
    (store.path / INCOMING_FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be taken in"):
        take_over(store, frozenset(TABLES))
