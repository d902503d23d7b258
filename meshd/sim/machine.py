"""A simulated machine: its disk, its side of links, and what its daemon has told people."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.node import Node
from meshd.core.state import TABLES, Stored
from meshd.errors import Code
from meshd.ids import LinkId, PeerId, Ticket
from meshd.sim.suite import SimSuite
from meshd.wire.session_description import SessionDescription

Changes = tuple[cm.Change, ...]
Notice = tuple[float, str, dict[str, Any]]
Handled = tuple[float, ev.Event, list[cm.Command]]
Tamper = Callable[[ev.Event, list[cm.Command]], list[cm.Command]]


@dataclass(slots=True)
class End:
    """One side of a link being made or made."""

    machine: int
    link: LinkId
    offerer: bool
    description: SessionDescription
    fingerprint: bytes
    remote: SessionDescription | None = None
    other: End | None = None
    free_at: float = 0.0  # messages on a link stay in order
    open: bool = True
    path_lost: bool = False  # its NAT has forgotten it: nothing passes until it goes on over another path
    resumes: LinkId | None = None  # made to be the new path of that one
    held: list[bytes] = field(default_factory=list)  # sent while nothing passed: retransmitted when something does


@dataclass(slots=True)
class Machine:
    """One simulated machine: its keys and disk outlive its daemon."""

    index: int
    suite: SimSuite
    config: Config
    disk: Stored = field(default_factory=lambda: {table: {} for table in TABLES})
    node: Node | None = None
    boot: int = 0
    skew: float = 0.0  # seconds its wall clock is ahead
    deadline: float | None = None
    alarm: float | None = None  # when the network looks at the deadline next
    ends: dict[LinkId, End] = field(default_factory=dict)
    streams: dict[tuple[LinkId, int], None] = field(default_factory=dict)  # opened here, and not told to have ended
    relayed: dict[int, None] = field(default_factory=dict)  # the same of those over others, by their numbers
    answers: dict[int, tuple[Code | None, Any]] = field(default_factory=dict)
    delivered: list[dict[str, Any]] = field(default_factory=list)
    notices: MutableSequence[Notice] = field(default_factory=list)
    recent: deque[Handled] | None = None  # the last events and what came of them, if anybody wants to know
    tamper: Tamper | None = None  # of a malicious member: what its daemon does in place of what its node says
    forgetful: bool = False  # it never restarts, so nothing is kept on its disk
    push_down: bool = False
    user_agents: dict[bool, str] = field(default_factory=dict)  # newcomers' or not → the uaid it connects with
    unregistering: list[cm.UnregisterChannel] = field(default_factory=list)  # to be said at the next connection
    store_fails: bool = False  # every write is answered with an error
    writes: deque[tuple[Ticket, Changes]] = field(default_factory=deque)  # asked for, not on the disk yet
    disk_free_at: float = 0.0

    @property
    def peer(self) -> PeerId:
        """Its id."""
        return self.suite.peer_id

    def write(self, changes: Changes) -> None:
        """Have the disk show these changes."""
        if self.forgetful:
            return
        for change in changes:
            match change:
                case cm.Put(table, key, value):
                    self.disk[table][key] = value
                case cm.Delete(table, key):
                    self.disk[table].pop(key, None)
                case cm.Clear(table):
                    self.disk[table].clear()

    def lose_power(self, rng: Random) -> None:
        """What was being written may or may not have made it, but always in order and each change set as a whole."""
        survived = 0 if self.store_fails else rng.randint(0, len(self.writes))
        for _ in range(survived):
            self.write(self.writes.popleft()[1])
        self.writes.clear()
