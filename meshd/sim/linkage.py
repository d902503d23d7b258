"""Links between simulated machines: gathering, connecting, carrying, closing, and a network that can be cut in two."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshd.core import events as ev
from meshd.ids import LinkId
from meshd.sim.machine import End, Machine
from meshd.wire.messages import Forward, encode_message
from meshd.wire.session_description import Candidate, SessionDescription

if TYPE_CHECKING:
    from meshd.sim.network import Network

# Policy
PROBED_TIME = 0.7  # seconds that a path is asked in vain until that is said, as ``meshd.links`` has it

_FORWARD = encode_message(Forward(1, b"x"))[:2]  # how every relayed envelope begins on a link


class Linkage:
    """All links of all machines. A link is reliable; within it, only relayed envelopes may overtake each other.

    What is sent to go only once is lost by ``Conditions.loss``, and overtakes what waits for a retransmission.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._descriptions: dict[str, End] = {}
        self._at_once: list[tuple[Machine, ev.Event]] | None = None  # hellos on a link that is being planted
        self._side: dict[int, int] = {}  # of a cut network; machines on one side reach each other

    # -- cutting ------------------------------------------------------------------------------------------------------

    def cut(self, *sides: set[int]) -> None:
        """From now on nothing passes between these groups; whoever is in none of them is with the first."""
        self._side = {index: number for number, side in enumerate(sides) for index in side}

    def heal(self) -> None:
        """All is connected again; links that both ends still believe in carry what was held back."""
        self._side = {}
        for machine in self._network.machines:
            for end in machine.ends.values():
                self._retransmit(end)

    def _retransmit(self, end: End) -> None:
        held, end.held = end.held, []
        for data in held:
            self.transmit(self._network.machines[end.machine], end.link, data)

    def _severed(self, a: int, b: int) -> bool:
        return self._side.get(a, 0) != self._side.get(b, 0)

    # -- making -------------------------------------------------------------------------------------------------------

    def prepare(self, machine: Machine, link: LinkId, offerer: bool, resumes: LinkId | None = None) -> None:
        """See ``PrepareLink``."""
        network = self._network
        end = self._new_end(machine, link, offerer, resumes)
        prepared = ev.LinkPrepared(link, end.description)
        network.schedule(network.between(network.conditions.gather), machine, prepared)

    def _new_end(self, machine: Machine, link: LinkId, offerer: bool, resumes: LinkId | None = None) -> End:
        fingerprint = hashlib.sha256(b"%d %d" % (machine.index, machine.boot)).digest()
        ufrag = f"m{machine.index}b{machine.boot}l{link}".ljust(4, "x")
        host = f"10.{machine.index // 250}.{machine.index % 250}.1"
        description = SessionDescription(
            ufrag,
            "p" * 24,
            fingerprint,
            "actpass" if offerer else "active",
            (Candidate("host", host, 1024 + link % 60000),),
        )
        end = End(machine.index, link, offerer, description, fingerprint, resumes=resumes)
        machine.ends[link] = end
        self._descriptions[ufrag] = end
        return end

    def plant(self, a: Machine, link: LinkId, b: Machine, there: LinkId) -> None:
        """A link that has been there all along: both nodes know it already, and prove themselves to each other now."""
        network = self._network
        ends = (self._new_end(a, link, True), self._new_end(b, there, False))
        for end, other in (ends, ends[::-1]):
            end.other, end.remote = other, other.description
        self._at_once = []
        for end, other in (ends, ends[::-1]):
            event = ev.LinkConnected(end.link, end.fingerprint, other.fingerprint)
            network.tell(network.machines[end.machine], event)
        hellos, self._at_once = self._at_once, None
        for machine, hello in hellos:
            network.tell(machine, hello)

    def connect(
        self, machine: Machine, link: LinkId, remote: SessionDescription, resume: bool = False, patience: float = 0.0
    ) -> None:
        """See ``ConnectLink``."""
        network = self._network
        end = machine.ends.get(link)
        if end is None:
            return
        end.remote = remote
        if not resume:
            end.resumes = None
        other = self._descriptions.get(remote.ufrag)
        if other is not None and other.open and self._can_connect(end, other):
            delay = network.between(network.conditions.connect)
            for side, across in ((end, other), (other, end)):
                side.other = across
                if side.resumes is not None:
                    resumed = ev.LinkResumed(side.resumes, side.link)
                    network.schedule(delay, network.machines[side.machine], resumed)
                    continue
                event = ev.LinkConnected(
                    side.link,
                    side.fingerprint,
                    across.fingerprint,
                    local_address=str(side.machine),
                    remote_address=str(across.machine),
                )
                network.schedule(delay, network.machines[side.machine], event)
        timeout = network.conditions.connect_timeout + patience
        network.schedule(timeout, machine, ConnectTimeout(link, "ice_failed"))

    def _can_connect(self, end: End, other: End) -> bool:
        mutual = other.remote is not None and other.remote.ufrag == end.description.ufrag
        a, b = end.machine, other.machine
        return mutual and not self._severed(a, b) and not self._network.unconnectable(a, b)

    def _passes(self, end: End) -> bool:
        other = end.other
        assert other is not None
        return not (end.path_lost or other.path_lost or (self._side and self._severed(end.machine, other.machine)))

    def probe(self, machine: Machine, link: LinkId) -> None:
        """See ``ProbePath``. Here no link finds another path by itself."""
        end = machine.ends.get(link)
        if end is not None and end.other is not None and not self._passes(end):
            self._network.schedule(PROBED_TIME, machine, ev.ProbeFailed(link, PROBED_TIME))

    def arrives(self, machine: Machine, event: ev.Event) -> ev.Event | None:
        """What becomes of an event about a link when its time has come."""
        if isinstance(event, ConnectTimeout | HangUp):
            end = machine.ends.get(event.link)
            if end is None or (isinstance(event, ConnectTimeout) and end.other is not None):
                return None
            end.open = False
            del machine.ends[event.link]
            return ev.LinkClosed(event.link, event.reason)
        if isinstance(event, ConsentExpired):
            machine.ends.pop(event.link, None)
            return ev.LinkClosed(event.link, event.reason)
        if isinstance(event, ev.LinkResumed):
            return self._resumed(machine, event)
        if isinstance(event, ev.ProbeFailed):
            end = machine.ends.get(event.link)
            return None if end is None or end.other is None or self._passes(end) else event
        if isinstance(event, Beat):
            return self._answer(machine, event)
        about_link = isinstance(event, ev.MessageReceived | ev.HeartbeatAnswered | ev.LinkPrepared | ev.LinkConnected)
        return None if about_link and event.link not in machine.ends else event  # type: ignore[union-attr]

    def _resumed(self, machine: Machine, event: ev.LinkResumed) -> ev.Event | None:
        made, end = machine.ends.pop(event.by, None), machine.ends.get(event.link)
        if made is None:
            return None
        made.open = False
        if end is None:
            return ev.LinkClosed(event.by, "nothing_to_resume")
        end.path_lost = False
        self._retransmit(end)
        return event

    def across(self, machine: Machine) -> set[int]:
        """The machines to which that one has a link on which something passes just now."""
        return {
            end.other.machine
            for end in machine.ends.values()
            if end.other is not None and end.open and end.other.open and self._passes(end)
        }

    # -- carrying -----------------------------------------------------------------------------------------------------

    def transmit(self, machine: Machine, link: LinkId, data: bytes, reliable: bool = True) -> None:
        """See ``SendMessage``."""
        network = self._network
        end = machine.ends.get(link)
        if end is None or end.other is None or not end.other.open:
            return
        if self._at_once is not None:
            self._at_once.append((network.machines[end.other.machine], ev.MessageReceived(end.other.link, data)))
            return
        if not reliable:
            self._send_once(end, ev.MessageReceived(end.other.link, data))
            return
        if not self._passes(end):
            end.held.append(data)
            return
        conditions = network.conditions
        delay = network.latency(end.machine, end.other.machine)
        while conditions.loss and network.rng.random() < conditions.loss:
            delay += conditions.retransmission
        other = network.machines[end.other.machine]
        if conditions.reordering and data[:2] == _FORWARD and network.rng.random() < conditions.reordering:
            delay += network.between(conditions.reordered)
        else:
            end.free_at = max(end.free_at, network.now + delay)
            delay = end.free_at - network.now
        network.schedule(delay, other, ev.MessageReceived(end.other.link, data))

    def ask(self, machine: Machine, link: LinkId, number: int) -> None:
        """See ``SendHeartbeat``."""
        end = machine.ends.get(link)
        if end is not None and end.other is not None:
            self._send_once(end, Beat(end.other.link, number))

    def _answer(self, machine: Machine, beat: Beat) -> ev.Event | None:
        """The transport's business: a daemon that runs answers, whatever its node makes of it."""
        end = machine.ends.get(beat.link)
        if end is None or end.other is None:
            return None
        self._send_once(end, ev.HeartbeatAnswered(end.other.link, beat.number))
        return ev.HeartbeatReceived(beat.link)

    def _send_once(self, end: End, event: ev.Event) -> None:
        """What goes once: lost, or there after the latency, whatever waits."""
        network, other = self._network, end.other
        if other is not None and other.open and self._passes(end):
            conditions = network.conditions
            if network.rng.random() >= conditions.loss:
                delay = network.latency(end.machine, other.machine)
                network.schedule(delay, network.machines[other.machine], event)

    # -- ending -------------------------------------------------------------------------------------------------------

    def close(self, machine: Machine, link: LinkId) -> None:
        """See ``CloseLink``: what was sent still arrives."""
        network = self._network
        end = machine.ends.pop(link, None)
        if end is None:
            return
        end.open = False
        other = end.other
        if other is not None and other.open and not self._severed(end.machine, other.machine):
            delay = max(end.free_at - network.now, network.latency(end.machine, other.machine))
            network.schedule(delay, network.machines[other.machine], HangUp(other.link, "closed_by_peer"))

    def end_stream(self, machine: Machine, link: LinkId, stream: int, reason: str) -> None:
        """The bytes of a stream have come to their end here, and a little later at the other end of the link."""
        network = self._network
        end = machine.ends.get(link)
        if machine.streams.pop((link, stream), False) is None:
            network.schedule(0.0, machine, ev.StreamEnded(link, stream, reason, 0, 0))
        if end is None or end.other is None or not end.other.open:
            return
        other = network.machines[end.other.machine]
        end.free_at = max(end.free_at, network.now + network.latency(end.machine, end.other.machine))
        other.streams.pop((end.other.link, stream), None)
        network.schedule(end.free_at - network.now, other, ev.StreamEnded(end.other.link, stream, reason, 0, 0))

    def break_link(self, machine: Machine, link: LinkId) -> None:
        """The association fails (ICE consent lost): both ends are told."""
        end = machine.ends.get(link)
        for side in (end, None if end is None else end.other):
            if side is not None and side.open:
                target = self._network.machines[side.machine]
                self._network.schedule(0.0, target, HangUp(side.link, "connection_lost"))

    def lose_path(self, machine: Machine, link: LinkId) -> None:
        """A NAT on the way has forgotten a link: nothing passes either way, and nobody is told."""
        end = machine.ends[link]
        end.path_lost = True
        if end.other is not None:
            end.other.path_lost = True

    def fall_silent(self, machine: Machine) -> None:
        """The daemon is gone without a word: its peers' shells find out in their time, if conditions say so."""
        network = self._network
        for end in machine.ends.values():
            end.open = False
            timeout, other = network.conditions.consent_timeout, end.other
            if timeout and other is not None and other.open:
                gone = ConsentExpired(other.link, "consent_expired")
                network.schedule(timeout, network.machines[other.machine], gone)
        machine.ends.clear()

    def hang_up(self, machine: Machine) -> None:
        """The daemon ends in good order: all its links are closed, not just silent."""
        for link in list(machine.ends):
            self.close(machine, link)


@dataclass(frozen=True, slots=True)
class Beat(ev.HeartbeatReceived):
    """A heartbeat on its way; the node is told without the number."""

    number: int


class ConnectTimeout(ev.LinkClosed):
    """Fires only if the link has not connected; told apart by its class, told to the node as what it is."""

    __slots__ = ()


class HangUp(ev.LinkClosed):
    """The other side has closed a link."""

    __slots__ = ()


class ConsentExpired(ev.LinkClosed):
    """The other side does not answer checks any more (RFC 7675)."""

    __slots__ = ()
