"""What all machines of one node share: keys, dice, timers, counters, and the tray that commands are put into."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from meshd.config import Config
from meshd.core.commands import Change, Command, Notify, Persist, Refuse, Respond
from meshd.core.facts import Fact
from meshd.core.timers import Timers
from meshd.crypto.suite import Suite
from meshd.errors import Code
from meshd.ids import Instance, LinkId, Now, PeerId, PushId, RequestId, Ticket


class Context:
    """One per node. Machines hold it and the machines below them, nothing else."""

    __slots__ = (
        "_after", "_commands", "_last_link", "_last_push", "_last_ticket", "config", "counters", "facts", "instance",
        "now", "rng", "suite", "timers",
    )

    def __init__(self, config: Config, suite: Suite, rng: Random, instance: Instance) -> None:
        self.config = config
        self.suite = suite
        self.rng = rng
        self.instance = instance
        self.timers = Timers()
        self.counters: dict[str, int] = {}
        self.facts: deque[Fact] = deque()
        self.now = Now(0.0, 0.0)
        self._commands: list[Command] = []
        self._after: dict[Ticket, list[Command]] = {}
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

    def notify(self, name: str, **fields: Any) -> None:
        """Log it and tell the watchers (``meshd.core.notifications`` has the names)."""
        self.do(Notify(name, fields))

    def respond(self, request: RequestId, **result: Any) -> None:
        """Answer a request."""
        self.do(Respond(request, result))

    def refuse(self, request: RequestId, code: Code, detail: str = "") -> None:
        """Answer a request with an error."""
        self.do(Refuse(request, code, detail))

    # -- durability ---------------------------------------------------------------------------------------------------

    def persist(self, *changes: Change) -> Ticket:
        """Write all or none; see ``after``."""
        self._last_ticket += 1
        ticket = Ticket(self._last_ticket)
        self._after[ticket] = []
        self.do(Persist(ticket, changes))
        return ticket

    def after(self, ticket: Ticket | None, command: Command) -> None:
        """Have it done once that ticket is durable (at once, if it is or there is none). Never, if it fails."""
        waiting = None if ticket is None else self._after.get(ticket)
        if waiting is None:
            self.do(command)
        else:
            waiting.append(command)

    def persisted(self, ticket: Ticket) -> None:
        """Do what waited for it."""
        for command in self._after.pop(ticket, ()):
            self.do(command)

    def persist_failed(self, ticket: Ticket) -> None:
        """Drop what waited for it; requests among it are refused rather than left hanging."""
        for command in self._after.pop(ticket, ()):
            if isinstance(command, Respond | Refuse):
                self.refuse(command.request, Code.STORE_FAILED)
            else:
                self.count("dropped_not_durable")

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


