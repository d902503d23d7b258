"""What has happened in a simulation, as the invariants need it: who said what to whom, opened for the observer.

The observer stands outside: it reads sealed things (the simulator's keys are known to it), remembers over kills, and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.crypto.admission import Chain, decode_chain, expires_at, verify_chain
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import IntroductionId, MeshId, PeerId, SessionId
from meshd.sim.machine import Machine
from meshd.sim.network import Network
from meshd.sim.suite import SimSuite, pushed_plaintext
from meshd.wire import messages as ms
from meshd.wire.envelope import HEADER_SIZE, Letter, open_envelope

NO_SESSION = SessionId(b"")
NO_MESH = MeshId(b"")
_ANSWERS = (ms.Answer, ms.JoinAccepted, ms.JoinRefused, ms.OfferDeclined)  # as many as were asked for
_DULL = (ms.Heartbeat, ms.HeartbeatAnswer)


@dataclass(frozen=True, slots=True)
class Said:
    """A message that leaves a node for ``to`` (empty: a bearer's to an introduction): on a link, relayed, pushed.

    ``to`` of something relayed is its recipient, not the relay. ``size``: bytes on the link, or of the push.
    """

    to: PeerId
    message: ms.Message
    way: str
    session: SessionId = NO_SESSION
    size: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One event handled by one node. ``passed_on``: envelopes of others that it forwards, as (sender, neighbor)."""

    machine: Machine
    event: ev.Event
    commands: list[cm.Command]
    said: list[Said]
    passed_on: list[tuple[PeerId, PeerId]]


@dataclass(slots=True)
class History:
    """Facts, gathered step by step. Times are the simulation's."""

    network: Network
    mesh: MeshId = NO_MESH
    hostile: set[PeerId] = field(default_factory=set)  # whose keys a thief has: what is said with them proves nothing
    chains: dict[PeerId, Chain] = field(default_factory=dict)  # of everybody who is, or was, a member
    left: dict[PeerId, float] = field(default_factory=dict)
    farewells: dict[PeerId, float] = field(default_factory=dict)  # who has left, and could still say so
    numbers: dict[tuple[PeerId, int], bytes] = field(default_factory=dict)  # record number → the record that had it
    told: dict[bytes, int] = field(default_factory=dict)  # record → the machine that showed it last
    kept: dict[int, set[bytes]] = field(default_factory=dict)  # machine → message ids that were in its inbox on disk
    delivered: dict[tuple[int, bytes], int] = field(default_factory=dict)
    uses: dict[IntroductionId, int] = field(default_factory=dict)
    asked: dict[SessionId, tuple[IntroductionId, PeerId]] = field(default_factory=dict)  # join requests, by session
    joined: dict[IntroductionId, set[PeerId]] = field(default_factory=dict)
    offered_by_push: set[SessionId] = field(default_factory=set)
    pushed: set[SessionId] = field(default_factory=set)  # sessions that have taken a push
    pushes: dict[tuple[int, int, PeerId], list[float]] = field(default_factory=dict)  # machine, boot; to peer, unasked
    join_pushes: dict[int, list[str]] = field(default_factory=dict)  # joiner's machine → kinds of pushes it took
    requests: dict[int, tuple[int, int, float, str]] = field(default_factory=dict)  # machine, boot, when, method
    _valid: dict[PeerId, tuple[Chain, float]] = field(default_factory=dict)  # verified chains, and when they end
    _decoded: tuple[bytes, Any] = (b"", None)
    _machines: dict[PeerId, Machine] = field(default_factory=dict)
    _reader: SimSuite = field(init=False)

    def __post_init__(self) -> None:
        """Nobody's keys: only for opening with an introduction's."""
        self._reader = SimSuite(self.network.table, b"observer", b"observer")

    # -- reading what is sent -----------------------------------------------------------------------------------------

    def read(self, data: bytes) -> ms.Message:
        """A message on a link; the same bytes often go to many."""
        if self._decoded[0] is not data:
            self._decoded = (data, ms.decode_message(data, ms.LINK_MESSAGES))
        return self._decoded[1]

    def open(self, envelope: bytes) -> Letter | None:
        """What is in an envelope, whoever it is for."""
        recipient = self.machine_of(PeerId(envelope[HEADER_SIZE - 32 : HEADER_SIZE]))
        try:
            if recipient is not None:
                return open_envelope(recipient.suite, self.mesh, envelope)
            seed = self.network.table.seed(envelope[HEADER_SIZE : HEADER_SIZE + 32])
            return None if seed is None else open_envelope(self._reader, self.mesh, envelope, seed)
        except (MalformedMessage, Rejected):
            return None

    def step(self, machine: Machine, event: ev.Event, commands: list[cm.Command]) -> Step:
        """What has just happened, opened; and everything that follows for the facts."""
        said: list[Said] = []
        passed_on: list[tuple[PeerId, PeerId]] = []
        for command in commands:
            if isinstance(command, cm.SendMessage):
                end = machine.ends.get(command.link)
                if end is None or end.other is None:
                    continue
                there = self.network.machines[end.other.machine].peer
                message = self.read(command.data)
                if not isinstance(message, ms.Forward):
                    if not isinstance(message, _DULL):
                        said.append(Said(there, message, "link", size=len(command.data)))
                    continue
                letter = self.open(message.envelope)
                if letter is not None and letter.sender == machine.peer:
                    said.append(self._letter(letter, PeerId(message.envelope[10:42]), "relay", len(command.data)))
                elif letter is not None:
                    passed_on.append((letter.sender, there))
            elif isinstance(command, cm.SendPush):
                envelope = pushed_plaintext(command.body)
                letter = self.open(envelope)
                if letter is not None and letter.sender == machine.peer:
                    said.append(self._letter(letter, PeerId(envelope[10:42]), "push", len(command.body)))
                elif letter is not None:  # on behalf of another
                    passed_on.append((letter.sender, PeerId(envelope[10:42])))
        step = Step(machine, event, commands, said, passed_on)
        self._note(step)
        return step

    @staticmethod
    def _letter(letter: Letter, to: PeerId, way: str, size: int) -> Said:
        return Said(to, ms.decode_message(letter.body, ms.ENVELOPE_MESSAGES), way, letter.session, size)

    # -- facts --------------------------------------------------------------------------------------------------------

    def _note(self, step: Step) -> None:
        machine, now = step.machine, self.network.now
        self._note_membership(machine, now)
        for said in step.said:
            match said.message:
                case ms.JoinRequest():
                    self.asked[said.session] = (IntroductionId(said.message.introduction), machine.peer)
                    self.join_pushes.setdefault(machine.index, []).append("request")
                case ms.JoinAccepted():
                    self._note_joined(said)
                case ms.Records() if machine.peer in self.left and machine.peer not in self.farewells:
                    self.farewells[machine.peer] = now
                case ms.Offer() if said.way == "push":
                    self.offered_by_push.add(said.session)
            if said.way == "push" and not isinstance(said.message, _ANSWERS):
                self.pushes.setdefault((machine.index, machine.boot, said.to), []).append(now)
        for command in step.commands:
            if isinstance(command, cm.DeliverMessage):
                key = (machine.index, command.message["message_id"])
                self.delivered[key] = self.delivered.get(key, 0) + 1
                self.kept.setdefault(machine.index, set()).update(machine.disk["inbox"])
            elif isinstance(command, cm.Respond) and "token" in command.result:
                self.uses[IntroductionId(command.result["introduction_id"])] = command.result["uses"]
        if isinstance(step.event, ev.Requested):
            self.requests[step.event.request] = (machine.index, machine.boot, now, step.event.method)

    def _note_membership(self, machine: Machine, now: float) -> None:
        node = machine.node
        row = None if node is None else node.membership.row
        if row is not None:
            self.mesh = self.mesh or MeshId(row.mesh)
            known = self.chains.get(machine.peer)
            if known is None or machine.peer in self.left or known[-1].encoded != row.chain[-1]:
                self.chains[machine.peer] = decode_chain(row.chain)
                self.left.pop(machine.peer, None)
                self.farewells.pop(machine.peer, None)
        elif machine.peer in self.chains and machine.peer not in self.left:
            self.left[machine.peer] = now

    def _note_joined(self, said: Said) -> None:
        introduction, joiner = self.asked.get(said.session, (IntroductionId(b""), said.to))
        self.joined.setdefault(introduction, set()).add(PeerId(decode_chain(said.message.chain)[-1].subject))
        machine = self.machine_of(joiner)
        if machine is not None:
            self.join_pushes.setdefault(machine.index, []).append("accepted")

    def on_boot(self, machine: Machine) -> None:
        """Its disk is all that it has: what is in the inbox there was kept."""
        self.kept.setdefault(machine.index, set()).update(machine.disk["inbox"])

    # -- looking up ---------------------------------------------------------------------------------------------------

    def valid_until(self, peer: PeerId) -> float:
        """To when (Unix seconds) that peer's chain is valid; 0.0 for a stranger. Each chain is verified once."""
        chain = self.chains.get(peer)
        if chain is None:
            return 0.0
        known = self._valid.get(peer)
        if known is None or known[0] is not chain:
            try:
                verify_chain(chain, self.mesh, max(c.issued for c in chain), self._reader.verify)
                known = self._valid[peer] = (chain, float(expires_at(chain)))
            except Rejected:
                known = self._valid[peer] = (chain, 0.0)
        return known[1]

    def machine_of(self, peer: PeerId) -> Machine | None:
        """The machine with that id; of doubles, the first."""
        if not self._machines:
            self._machines = {machine.peer: machine for machine in reversed(self.network.machines)}
        return self._machines.get(peer)

    def open_requests(self) -> Iterator[tuple[int, int, float, str]]:
        """Requests that nobody has answered, of daemons that still run: (request, machine, when asked, method)."""
        for request, (index, boot, when, method) in self.requests.items():
            machine = self.network.machines[index]
            if machine.node is not None and machine.boot == boot and request not in machine.answers:
                yield request, index, when, method
