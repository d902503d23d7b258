"""A new run of a peer's daemon supersedes the old one; what the old one said counts no more."""

from __future__ import annotations

from random import Random

import pytest

from meshd.config import Config
from meshd.core.commands import Notify
from meshd.core.context import Context
from meshd.core.signaling.boots import Boots
from meshd.ids import Instance, PeerId
from meshd.sim.suite import KeyTable, SimSuite

PEER = PeerId(b"p" * 32)
FIRST, SECOND, THIRD = b"1" * 8, b"2" * 8, b"3" * 8


@pytest.fixture
def ctx() -> Context:
    return Context(Config(), SimSuite(KeyTable(), b"i" * 32, b"s" * 32), Random(1), Instance(b"0" * 8))


def names(ctx: Context) -> list[str]:
    return [command.name for command in ctx.take_commands() if isinstance(command, Notify)]


def test_a_restart_is_believed_and_its_predecessor_no_more(ctx: Context) -> None:
    boots = Boots(ctx)
    assert not boots.is_stale(PEER, FIRST, 100)
    assert not boots.is_stale(PEER, SECOND, 105)
    assert boots.is_stale(PEER, FIRST, 104), "a push of the old run that came late"
    assert boots.is_stale(PEER, FIRST, 105), "also one of the very second in which the new run spoke first"
    assert not boots.is_stale(PEER, SECOND, 103), "the new run may be reordered in itself"
    assert names(ctx) == []
    assert ctx.counters["signaling_stale"] == 2


def test_a_run_that_comes_back_after_another_is_a_double(ctx: Context) -> None:
    boots = Boots(ctx)
    for instance, issued in ((FIRST, 100), (SECOND, 110), (THIRD, 120)):
        assert not boots.is_stale(PEER, instance, issued)
    assert not boots.is_stale(PEER, FIRST, 130), "which of the two is the right one, nobody here can tell"
    assert names(ctx) == ["identity_doubled"]


def test_a_member_that_left_begins_anew(ctx: Context) -> None:
    boots = Boots(ctx)
    boots.is_stale(PEER, FIRST, 100)
    boots.forget(PEER)
    assert not boots.is_stale(PEER, SECOND, 50)
