"""The contract with the store: what depends on a write waits for it, and no older row ever replaces a newer one."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import Stage

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core.context import STORE_RETRY_INTERVAL, Context
from meshd.core.facts import NotDurable
from meshd.errors import Code
from meshd.ids import Instance, LinkId, Now, RequestId, Ticket
from meshd.sim.suite import KeyTable, SimSuite

KEYS = [b"a", b"b", b"c"]


class Store:
    """A context and a disk that works or fails as the test says, answering in order, when the test says."""

    def __init__(self) -> None:
        self.ctx = Context(Config(), SimSuite(KeyTable(), bytes(32), bytes(32)), Random(1), Instance(bytes(8)))
        self.disk: dict[bytes, bytes] = {}
        self.asked: list[cm.Persist] = []
        self.done: list[cm.Command] = []
        self.depends: dict[int, Ticket] = {}
        self.values: dict[Ticket, tuple[bytes, bytes]] = {}
        self.memory: dict[bytes, bytes] = {}  # what the node believes
        self.count = 0

    def collect(self) -> None:
        for command in self.ctx.take_commands():
            (self.asked if isinstance(command, cm.Persist) else self.done).append(command)  # type: ignore[arg-type]

    def write(self, key: bytes, *, request: bool = False) -> Ticket:
        self.count += 1
        value = b"%d" % self.count
        number = RequestId(self.count) if request else None
        ticket = self.ctx.persist(cm.Put("mesh", key, value), request=number)
        self.values[ticket] = (key, value)
        self.memory[key] = value
        self.depends[self.count] = ticket
        self.ctx.after(ticket, cm.CloseLink(LinkId(self.count)))
        self.collect()
        return ticket

    def answer(self, good: bool) -> None:
        if not self.asked:
            return
        persist = self.asked.pop(0)
        if good:
            for change in persist.changes:
                assert isinstance(change, cm.Put)
                self.disk[change.key] = change.value
            self.ctx.persisted(persist.ticket)
        else:
            self.ctx.persist_failed(persist.ticket, "No space left on device")
        self.collect()

    def settle(self) -> None:
        """The disk works again; all is tried until it is written."""
        for _ in range(100):
            while self.asked:
                self.answer(True)
            due = self.ctx.timers.pop_due(1e9)
            if due is None:
                return
            self.ctx.now = Now(max(due[1], self.ctx.now.mono), 0.0)
            self.ctx.retry_store()
            self.collect()
        raise AssertionError("it never settles")

    def let_go(self) -> list[int]:
        """The numbers of what was waiting and has been done."""
        return [command.link for command in self.done if isinstance(command, cm.CloseLink)]


steps = st.lists(st.sampled_from([*KEYS, *KEYS, "good", "good", "bad", "retry"]), max_size=60)


@settings(max_examples=300)
@given(steps)
def test_whatever_fails_in_between_the_disk_ends_as_the_memory_is(drawn: list[bytes | str]) -> None:
    store = Store()
    for step in drawn:
        if isinstance(step, bytes):
            store.write(step)
        elif step == "retry":
            store.ctx.retry_store()
            store.collect()
        else:
            store.answer(step == "good")
        for number in store.let_go():  # what has left would survive a power cut now
            key, value = store.values[store.depends[number]]
            assert int(store.disk[key]) >= int(value)
    store.settle()
    assert store.disk == store.memory
    assert store.let_go() == list(range(1, store.count + 1))  # all of it, once, in order
    assert not store.ctx.store_failing


def test_nothing_new_is_taken_while_the_store_fails() -> None:
    store = Store()
    store.write(b"a")
    store.answer(False)
    assert store.ctx.store_failing
    assert [c.name for c in store.done if isinstance(c, cm.Notify)] == ["store_failing"]
    store.settle()
    assert not store.ctx.store_failing


def test_a_request_is_told_and_its_changes_are_dropped() -> None:
    store = Store()
    ticket = store.write(b"a", request=True)
    store.answer(False)
    assert [c.code for c in store.done if isinstance(c, cm.Refuse)] == [Code.STORE_FAILED]
    assert list(store.ctx.facts) == [NotDurable(ticket)]
    store.settle()
    assert store.disk == {}
    assert store.let_go() == []


def test_it_is_tried_again_after_a_while() -> None:
    stage = Stage("anna")
    anna = stage.found("anna")
    anna.disk_mode = "full"
    anna.node.membership.renew_record()
    stage.advance(1)
    tries = len(anna.did(cm.Persist))
    stage.advance(4 * STORE_RETRY_INTERVAL)
    assert 3 <= len(anna.did(cm.Persist)) - tries <= 6
    assert any("cannot be written" in warning for warning in anna.node.view().status["warnings"])
    anna.disk_mode = "good"
    stage.advance(2 * STORE_RETRY_INTERVAL)
    assert not any("cannot be written" in warning for warning in anna.node.view().status["warnings"])


def test_a_full_disk_for_an_hour_does_not_fill_memory() -> None:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh()
    anna.disk_mode = "full"
    for _ in range(60):
        stage.advance(30)
        bert.request("messages.send", peer="anna", body=b"x", wait=False)
        stage.advance(30)
    assert len(anna.node._ctx._outstanding) < 50
    assert anna.node.view().messages == []
    anna.disk_mode = "good"
    stage.advance(400)
    assert len(anna.inbox) == 60


def test_a_push_that_comes_while_nothing_can_be_kept_waits() -> None:
    stage = Stage("anna", "bert")
    anna = stage.found("anna")
    bert = stage["bert"]
    token = stage.mint("anna")
    anna.disk_mode = "full"
    anna.node.membership.renew_record()
    stage.advance(1)
    joining = bert.request("mesh.join", token=token, name="bert")
    assert not anna.did(cm.AcknowledgePush)
    anna.disk_mode = "good"
    stage.advance(STORE_RETRY_INTERVAL + 1)
    assert bert.answers[joining]["pushes_sent"] == 1, "neither side had to say anything twice"
    assert len(anna.did(cm.AcknowledgePush)) == 1
