"""The audit trail: what is noted, and that nobody washes it out."""

from __future__ import annotations

from random import Random

import pytest
from playbook import Player, Stage

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.context import Context
from meshd.core.pushing import audit
from meshd.core.pushing.audit import MAX_OF_ONE, USE_INTERVAL, Audit
from meshd.core.state import Stored
from meshd.ids import ChannelId, Instance, Now
from meshd.sim.suite import KeyTable, SimSuite

ANNA, BERT = b"a" * 32, b"b" * 32


class Trail:
    """An audit trail and its disk."""

    def __init__(self) -> None:
        self.ctx = Context(Config(), SimSuite(KeyTable(), b"s" * 32, b"t" * 32), Random(1), Instance(bytes(8)))
        self.ctx.now = Now(1000.0, 1_800_000_000.0)
        self.disk: Stored = {"audit": {}}
        self.audit = Audit(self.ctx, self.disk)

    def pass_time(self, seconds: float) -> None:
        self.ctx.now = Now(self.ctx.now.mono + seconds, self.ctx.now.unix + seconds)

    def restart(self) -> None:
        self.write()
        self.audit = Audit(self.ctx, self.disk)

    def write(self) -> None:
        for command in self.ctx.take_commands():
            assert isinstance(command, cm.Persist)
            for change in command.changes:
                if isinstance(change, cm.Put):
                    self.disk["audit"][change.key] = change.value
                elif isinstance(change, cm.Delete):
                    del self.disk["audit"][change.key]

    def kinds(self, holder: bytes) -> list[str]:
        return [row.kind for row in self.audit.entries(holder, None, 0, 1000)]


def test_a_holder_that_pushes_for_weeks_washes_nothing_out() -> None:
    trail = Trail()
    for holder in (ANNA, BERT):
        trail.audit.record("issued", holder, "own", 1_900_000_000)
    for _ in range(MAX_OF_ONE + 100):
        trail.audit.used(BERT, "own")
        trail.audit.refused(BERT, "own", "malformed")
        trail.pass_time(USE_INTERVAL)
    assert trail.kinds(ANNA) == ["issued"]
    assert trail.kinds(BERT).count("issued") == 1
    assert len(trail.audit) == MAX_OF_ONE + 2
    trail.restart()
    assert len(trail.disk["audit"]) == len(trail.audit) == MAX_OF_ONE + 2
    assert trail.kinds(BERT)[0] == "refused"
    trail.audit.used(BERT, "own")
    assert len(trail.audit) == MAX_OF_ONE + 2


def test_of_all_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_ENTRIES", 6)
    trail = Trail()
    for number in range(10):
        trail.audit.record("issued", bytes([number]) * 32)
    trail.restart()
    assert [row.holder[0] for row in trail.audit.entries(None, None, 0, 100)] == [9, 8, 7, 6, 5, 4]
    trail.audit.record("renewed", ANNA)
    assert trail.kinds(ANNA) == ["renewed"]
    assert len(trail.audit) == 6


def test_many_pushes_in_a_minute_are_one_line() -> None:
    trail = Trail()
    for _ in range(100):
        trail.audit.used(BERT, "own")
        trail.audit.refused(BERT, "own", "malformed")
    assert trail.kinds(BERT) == ["refused", "used"]


def channel_of(owner: Player, holder: Player) -> ChannelId:
    return next(channel for channel, row in owner.node.channels if row.holder == holder.id)


def test_what_came_by_a_holders_push_and_was_good_for_nothing_is_told() -> None:
    """Whoever stole what it holds can push, and has nothing to say."""
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(60.0)
    row = anna.node.channels.row(channel_of(anna, bert))
    assert row is not None
    push = ev.PushReceived(row.service, channel_of(anna, bert), "1", b"no push at all", bool(row.newcomer))
    anna.give(push)
    anna.give(push)
    rows = anna.node.audit.entries(bert.id, "refused", 0, 10)
    assert [(row.service, row.detail) for row in rows] == [(row.service, "undecryptable")]
    assert not anna.node.audit.entries(bert.id, "used", 0, 10)
