"""What all machines of one node share: keys, dice, timers, counters, and the tray that commands are put into."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

from meshd.config import Config
from meshd.core.commands import Change, Command, Delete, Notify, Persist, Refuse, Respond
from meshd.core.facts import Fact, NotDurable
from meshd.core.timers import Timers
from meshd.crypto.suite import Suite
from meshd.errors import Code
from meshd.ids import Instance, LinkId, Now, PeerId, PushId, RequestId, Ticket

# Policy
STORE_RETRY_INTERVAL = 5.0  # seconds between tries to write what could not be written
STORE_BUSY_INTERVAL = 0.1  # seconds; a retry waits for writes that are under way


@dataclass(slots=True)
class _Outstanding:
    """A ``Persist`` that is not answered yet, and what waits for it."""

    changes: tuple[Change, ...]
    request: RequestId | None
    commands: list[Command] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    followers: list[Ticket] = field(default_factory=list)  # those that this one writes again
    written: bool = False


class Context:
    """One per node. Machines hold it and the machines below them, nothing else."""

    __slots__ = (
        "_commands",
        "_last_link",
        "_last_push",
        "_last_ticket",
        "_outstanding",
        "_unwritten",
        "aside",
        "config",
        "counters",
        "facts",
        "instance",
        "now",
        "rng",
        "suite",
        "timers",
    )

    def __init__(self, config: Config, suite: Suite, rng: Random, instance: Instance) -> None:
        self.config = config
        self.suite = suite
        self.rng = rng
        self.instance = instance
        self.aside = False  # another daemon with our identity has the links: see ``meshd.core.membership.twin``
        self.timers = Timers()
        self.counters: dict[str, int] = {}
        self.facts: deque[Fact] = deque()
        self.now = Now(0.0, 0.0)
        self._commands: list[Command] = []
        self._outstanding: dict[Ticket, _Outstanding] = {}
        self._unwritten: list[Ticket] = []
        self._last_ticket = 0
        self._last_link = 0
        self._last_push = 0

    @property
    def own_id(self) -> PeerId:
        """This node."""
        return self.suite.peer_id

    # -- out ----------------------------------------------------------------------------------------------------------

    def do(self, command: Command) -> None:
        """Have it done."""
        self._commands.append(command)

    def take_commands(self) -> list[Command]:
        """All that is to be done, in order; the tray is empty afterwards."""
        commands, self._commands = self._commands, []
        return commands

    def state(self, fact: Fact) -> None:
        """Tell the other machines."""
        self.facts.append(fact)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter. Names are literals of our own, never taken from outside, so the map stays small."""
        self.counters[name] = self.counters.get(name, 0) + by

    def notify(self, name: str, /, **fields: Any) -> None:
        """Log it and tell the watchers (``meshd.core.notifications`` has the names)."""
        self.do(Notify(name, fields))

    def respond(self, request: RequestId, /, **result: Any) -> None:
        """Answer a request."""
        self.do(Respond(request, result))

    def respond_after(self, ticket: Ticket | None, request: RequestId, /, **result: Any) -> None:
        """Answer a request once that is durable."""
        self.after(ticket, Respond(request, result))

    def refuse(self, request: RequestId, code: Code, detail: str = "") -> None:
        """Answer a request with an error."""
        self.do(Refuse(request, code, detail))

    # -- durability ---------------------------------------------------------------------------------------------------

    @property
    def store_failing(self) -> bool:
        """Whether something could not be written yet. While so, nothing new is taken that would have to be kept."""
        return bool(self._unwritten)

    def persist(self, *changes: Change, request: RequestId | None = None) -> Ticket:
        """Write all or none; see ``after``.

        What cannot be written is tried again until it can, and what depends on it, or on anything after it, waits:
        memory may be ahead of the disk, but nobody was told, and an older row never replaces a newer one. With a
        ``request`` there is somebody to tell: it is refused, the changes are dropped, and ``NotDurable`` lets the
        machine undo them.
        """
        self._last_ticket += 1
        ticket = Ticket(self._last_ticket)
        self._outstanding[ticket] = _Outstanding(changes, request)
        if self._unwritten and request is None:
            self._unwritten.append(ticket)  # in its place in the queue
        else:
            self.do(Persist(ticket, changes))
        return ticket

    def delete(self, table: str, key: bytes) -> Ticket:
        """Remove one row."""
        return self.persist(Delete(table, key))

    def after(self, ticket: Ticket | None, command: Command) -> None:
        """Have it done once that ticket is durable (at once, if it is or there is none)."""
        outstanding = None if ticket is None else self._outstanding.get(ticket)
        if outstanding is None:
            self.do(command)
        else:
            outstanding.commands.append(command)

    def is_pending(self, ticket: Ticket | None) -> bool:
        """Whether that ticket is still to become durable."""
        return ticket is not None and ticket in self._outstanding

    def state_after(self, ticket: Ticket | None, fact: Fact) -> None:
        """Tell the other machines once that ticket is durable (at once, if it is or there is none)."""
        outstanding = None if ticket is None else self._outstanding.get(ticket)
        if outstanding is None:
            self.state(fact)
        else:
            outstanding.facts.append(fact)

    def persisted(self, ticket: Ticket) -> None:
        """Do what waited for it."""
        outstanding = self._outstanding.get(ticket)
        if outstanding is None:
            return
        outstanding.written = True
        if outstanding.followers:
            del self._outstanding[ticket]
            for follower in outstanding.followers:
                self._outstanding[follower].written = True
            self._unwritten = [left for left in self._unwritten if not self._outstanding[left].written]
        self._release()
        if outstanding.followers:
            self.retry_store()

    def _release(self) -> None:
        """All that is durable together with everything before it."""
        for ticket, outstanding in list(self._outstanding.items()):
            if not outstanding.written:
                return
            del self._outstanding[ticket]
            for command in outstanding.commands:
                self.do(command)
            self.facts.extend(outstanding.facts)

    def persist_failed(self, ticket: Ticket, reason: str) -> None:
        """Keep it for another try, or drop it and refuse the request that wanted it."""
        outstanding = self._outstanding[ticket]
        self.count("store_failures")
        if outstanding.request is not None:
            del self._outstanding[ticket]
            self.refuse(outstanding.request, Code.STORE_FAILED, reason)
            self.state(NotDurable(ticket))
            self._release()
            return
        if not self._unwritten:
            self.notify("store_failing", reason=reason)
        if outstanding.followers:  # a try of many together: they are still listed one by one
            del self._outstanding[ticket]
        else:
            self._unwritten.append(ticket)
        self.timers.set_at_latest(("store", b""), self.now.mono + STORE_RETRY_INTERVAL)

    def retry_store(self) -> None:
        """Try all that could not be written, together and in order; with what was written after it, once more."""
        if not self._unwritten:
            return
        waiting = self._outstanding.items()
        if any(not item.written and ticket not in self._unwritten for ticket, item in waiting):
            self.timer("store", b"", STORE_BUSY_INTERVAL)  # the disk still owes an answer, and order is all
            return
        followers = list(self._outstanding)
        changes = [change for item in self._outstanding.values() for change in item.changes]
        self._last_ticket += 1
        ticket = Ticket(self._last_ticket)
        self._outstanding[ticket] = _Outstanding(tuple(changes), None, followers=followers)
        self.do(Persist(ticket, tuple(changes)))

    # -- ids and time -------------------------------------------------------------------------------------------------

    def next_link(self) -> LinkId:
        """A new link's number."""
        self._last_link += 1
        return LinkId(self._last_link)

    def next_push(self) -> PushId:
        """A new push's number."""
        self._last_push += 1
        return PushId(self._last_push)

    def timer(self, name: str, about: bytes, delay: float) -> None:
        """Set or move a timer, ``delay`` seconds from now."""
        self.timers.set((name, about), self.now.mono + delay)

    def cancel_timer(self, name: str, about: bytes) -> None:
        """Forget a timer."""
        self.timers.cancel((name, about))

    def jitter(self, delay: float) -> float:
        """``delay`` give or take a quarter, so that many nodes do not act as one."""
        return delay * self.rng.uniform(0.75, 1.25)
