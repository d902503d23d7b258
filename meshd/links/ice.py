"""ICE (RFC 8445) by aioice, mended where a link would be slow, deaf or dead by it.

Each override says what upstream (aioice 0.13) does; ``tests/links/test_ice.py`` fails without it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import cast

from aioice import Candidate, stun
from aioice import ice as aioice_ice
from aioice.candidate import candidate_foundation, candidate_priority

from meshd.links import consent
from meshd.links.checks import KNOCK_INTERVAL, Checks
from meshd.links.consent import Attributes
from meshd.links.continuity import Continuity
from meshd.links.demux import Address
from meshd.links.early import EarlyChecks, EarlyRecords
from meshd.links.path import LinkPath
from meshd.links.sockets import LinkSockets
from meshd.links.statistics import Ends, address_text
from meshd.links.turn import RelaySocket

# Policy
CHECK_INTERVAL = 0.02  # Ta, between two connectivity checks of one link (RFC 8445 section 14.2 allows 5 ms and more)
MAX_PATHS = 16  # local addresses and relays that one link uses
MAX_REFLEXIVE_PAIRS = 32  # of those that a check came from unnamed: each has us send checks to wherever it points
MAX_PAIRS = 256  # candidate pairs of one link; aioice learns peer-reflexive candidates without end (RFC 8445 6.1.2.5)

_ASKED = (aioice_ice.CandidatePair.State.IN_PROGRESS, aioice_ice.CandidatePair.State.SUCCEEDED)


class IceConnection(Checks):
    """aioice's connection for exactly one component; its candidates come from ``meshd.links.gathering``.

    ``on_record(datagram)`` gets DTLS records, and says whether they were meant for this link; ``on_flush()`` is called
    when no more come for now, ``on_lost()`` when the peer has taken its consent back by silence, ``on_path(moved)``
    when data goes another way from now on, or can go again, ``on_unanswered(elapsed)`` now and then while no path
    answers. ``bases()`` gives the local addresses and relays that there are now, each with its path's name; without it
    there are those that ``add_path`` was told.
    """

    def __init__(
        self,
        *,
        controlling: bool,
        ufrag: str,
        pwd: str,
        sockets: LinkSockets,
        counters: Counter[str],
        bases: Callable[[], list[tuple[str, RelaySocket | None]]] | None = None,
    ) -> None:
        super().__init__(ice_controlling=controlling, local_username=ufrag, local_password=pwd)
        self.counters = counters
        self.consent_expired = False
        self.is_handshaking = True
        self.early_records = EarlyRecords(counters)
        self.on_record: Callable[[bytes], bool] = self.early_records.keep
        self.on_flush: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self.on_path: Callable[[bool], None] = _ignore
        self.on_unanswered: Callable[[float], None] = _ignore
        self.is_outside: Callable[[Address], bool] = _nowhere  # whether nothing may be sent to that address
        self._early = EarlyChecks(counters)
        self._continuity: Continuity | None = None  # from when a pair is nominated
        self._bases = bases
        self._paths: dict[str, LinkPath] = {}
        self._sockets = sockets
        sockets.demux.add(ufrag, self)

    # -- paths --------------------------------------------------------------------------------------------------------

    def add_path(self, address: str, relay: RelaySocket | None = None) -> LinkPath | None:
        """Use that local address from now on, or that relay, whose name it is; None: there is no socket for it."""
        shared = relay or self._sockets.for_address(address)
        if shared is None or self._closing:
            return None
        path = self._paths[address] = LinkPath(self, shared, address, relay)
        self._protocols.append(path)
        return path

    def receive_request(self, request: stun.Message, source: Address, local_address: str) -> None:
        """Answer a connectivity check of the peer."""
        path = self._paths.get(local_address)
        if path is None or not hasattr(path, "local_candidate"):
            self.counters["stun_elsewhere"] += 1  # an address that we have not offered
            return
        if self._early_checks_done:
            self._answer(request, source, path)
        else:
            self._early.keep(request, source, path)

    def _answer(self, request: stun.Message, source: Address, path: LinkPath) -> None:
        if self.is_refused(source):
            return
        try:
            self.request_received(request, source, path)
        except Exception:  # an attribute is missing that aioice takes for granted
            self.counters["stun_malformed"] += 1

    def is_refused(self, source: Address) -> bool:
        """Whether the peer's check has come by a server that ``links.ice`` lets us send nothing to."""
        refused = self.is_outside(source)
        if refused:
            self.counters["check_from_relay"] += 1
        return refused

    def is_authentic(self, request: bytes, attributes: Attributes) -> bool:
        """Whether this request was made with our password."""
        return consent.is_authentic(request, attributes, self.local_password.encode())

    def receive_record(self, datagram: bytes) -> bool:
        """Take DTLS records from an address that this link claims."""
        return self.on_record(datagram)

    def flush(self) -> None:
        """No more for now."""
        self.on_flush()

    def check_incoming(self, message: stun.Message, addr: Address, protocol: aioice_ice.StunProtocol) -> None:
        """An authentic check of the peer: where it came from is the peer's address, for DTLS too."""
        if self._continuity is not None:
            assert isinstance(protocol, LinkPath)
            self._continuity.hear((protocol, addr), nominates="USE-CANDIDATE" in message.attributes)
            return
        if not self._is_paired(protocol, addr):
            reflexive = sum(pair.remote_candidate.type == "prflx" for pair in self._check_list)
            if reflexive >= MAX_REFLEXIVE_PAIRS or len(self._check_list) >= MAX_PAIRS:
                self.counters["candidate_overflow"] += 1
                return
        super().check_incoming(message, addr, protocol)
        cast(LinkPath, protocol).ask_again(addr)
        self._sockets.demux.claim(self, addr, proven=True)

    def _is_paired(self, protocol: aioice_ice.StunProtocol, address: Address) -> bool:
        return any(pair.protocol is protocol and pair.remote_addr == address for pair in self._check_list)

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        """The description names that address, or a name that has been resolved to it."""
        super()._pair_remote_candidate(remote_candidate)
        if not self._closing:
            address = (remote_candidate._network_host, remote_candidate.port)
            self._sockets.demux.claim(self, address, proven=False)

    def send_batch(self, batch: bytes, size: int) -> None:
        """Send datagrams of ``size`` bytes to the peer, the last one perhaps shorter.

        Nowhere before ICE is done, nor while there is no consent (RFC 7675 section 5.1).
        """
        pair = self._nominated.get(1)
        after = self._continuity
        if pair is None or (after is not None and after.consent.is_paused):
            return
        path = cast(LinkPath, pair.protocol)
        if not path.send_batch(batch, size, pair.remote_addr) and after is not None:
            after.mobility.probe()

    def let_fragment(self, allowed: bool) -> None:
        """Whether IP may cut what is sent to the peer into fragments; see ``SharedSocket.let_fragment``."""
        pair = self._nominated.get(1)
        if pair is not None:
            cast(LinkPath, pair.protocol).shared.let_fragment(allowed)

    def retire(self) -> None:
        """Send nothing but answers any more; what comes is still taken."""
        self.on_lost, self.on_path, self.on_unanswered = _nothing, _ignore, _ignore
        if self._continuity is not None:
            self._continuity.stop()

    def abandon(self) -> None:
        """End what has been retired."""
        self._closing = True
        self._sockets.demux.remove(self.local_username, self)

    async def close(self) -> None:
        """End it; nothing comes any more from the next datagram on."""
        self._sockets.demux.remove(self.local_username, self)
        if self._continuity is not None:
            self._continuity.stop()
        await super().close()

    def gathered(self) -> None:
        """All local candidates there will be are known: connecting may begin."""
        self._local_candidates_start = self._local_candidates_end = True

    def add_local_candidate(self, candidate: Candidate) -> None:
        """List a candidate of ours."""
        self._local_candidates.append(candidate)

    def local_kind(self, pair: aioice_ice.CandidatePair) -> str:
        """What our side of a pair is that has succeeded (RFC 8445 section 7.2.5.3.1).

        Upstream names the base of every candidate, and so takes what a router translates for a host candidate.
        """
        path = pair.protocol
        assert isinstance(path, LinkPath)
        seen = path.seen_by.get(pair.remote_addr, path.address)
        known = [c for c in self._local_candidates if (c.host, c.port) == seen]
        kind: str = known[0].type if known else "prflx"
        return kind

    @property
    def selected(self) -> aioice_ice.CandidatePair | None:
        """The pair that carries data, once there is one."""
        return self._nominated.get(1)

    @property
    def ends(self) -> Ends | None:
        """That pair in words."""
        pair = self.selected
        if pair is None:
            return None
        local, remote = pair.local_candidate, pair.remote_candidate
        return Ends(
            self.local_kind(pair),
            remote.type,
            address_text(local.host, local.port),
            address_text(remote.host, remote.port),
        )

    def add_remote(self, candidate: Candidate, address: str) -> None:
        """List a candidate of the peer, to be reached at that address."""
        if not self._closing:
            self._add_remote_candidate(candidate, address)

    def end_of_remotes(self) -> None:
        """All candidates of the peer are known, so that there may be none left to try."""
        if not self._closing:
            self._remote_candidates_end = True
            self._end_remote_candidates()

    async def connect(self) -> None:
        """Check the pairs until one is nominated; raises ConnectionError if none can be.

        ``remote_username`` and ``remote_password`` must be set.

        Upstream sleeps the whole interval after the last check too, when the answer came long before: 20 ms on each
        link. This waits for the verdict or the interval, whichever is first.
        """
        for remote_candidate in self._remote_candidates:
            self._pair_remote_candidate(remote_candidate)
        self.sort_check_list()
        self._unfreeze_initial()
        self._early_checks_done = True
        for early_check in self._early.take():
            self._answer(*early_check)

        verdict = None
        while verdict is None:
            interval = CHECK_INTERVAL if self._check_periodic() else KNOCK_INTERVAL
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    verdict = await self._check_list_state.get()
            if verdict is None and interval == KNOCK_INTERVAL:
                self.knock_again()
        for pair in self._check_list:
            if pair.task is not None:
                pair.task.cancel()
        if verdict != aioice_ice.ICE_COMPLETED:
            raise ConnectionError("no candidate pair works")
        self._continue()

    # -- after nomination ----------------------------------------------------------------------------------------------

    def _continue(self) -> None:
        after = self._continuity = Continuity(self, self._sockets, self.counters)
        if self.ice_controlling and sum(pair.state in _ASKED for pair in self._check_list) > 1:
            after.consent.ask()  # the peer may have taken the last pair that it was asked by: nominate ours

    def probe(self) -> None:
        """The path in use is in doubt: ask all others, too. Nothing happens before there is one."""
        if self._continuity is not None:
            self._continuity.mobility.probe()

    @property
    def in_use(self) -> tuple[LinkPath, Address]:
        """Where data goes, once ICE is done."""
        pair = self._nominated[1]
        return cast(LinkPath, pair.protocol), pair.remote_addr

    def select(self, path: LinkPath, candidate: Candidate) -> None:
        """Send data there from now on."""
        self._nominated[1] = aioice_ice.CandidatePair(path, candidate)

    def known_remote(self, address: Address) -> Candidate | None:
        """The candidate of the peer's that is at that address."""
        known = (c for c in self._remote_candidates if (c._network_host, c.port) == address)
        return next(known, None)

    def named_remotes(self) -> list[Address]:
        """Where the peer, or a check of it, has said that it is, the likeliest first."""
        named = sorted(self._remote_candidates, key=lambda candidate: -candidate.priority)
        return [(candidate._network_host, candidate.port) for candidate in named]

    def remotes(self) -> list[Address]:
        """Where the peer may be, the likeliest first."""
        return self.named_remotes() if self._continuity is None else self._continuity.remotes()

    def paths(self) -> list[LinkPath]:
        """One for each local address and relay that there is now."""
        if self._bases is None:
            return list(self._paths.values())
        found = (self._path_of(name, relay) for name, relay in self._bases()[:MAX_PATHS])
        return [path for path in found if path is not None]

    def _path_of(self, name: str, relay: RelaySocket | None) -> LinkPath | None:
        path = self._paths.get(name)
        if path is not None and hasattr(path, "local_candidate") and relay in (None, path.shared):
            return path
        shared = relay or self._sockets.for_address(name)
        if shared is None or self._closing:
            return None
        if len(self._paths) >= 2 * MAX_PATHS:  # addresses that have come and gone
            in_use = self.in_use[0]
            self._paths = {name: path for name, path in self._paths.items() if path is in_use}
        path = self._paths[name] = LinkPath(self, shared, name, relay)
        kind = "relay" if relay else "host"
        path.local_candidate = Candidate(
            foundation=candidate_foundation(kind, "udp", name),
            component=1,
            transport="udp",
            priority=candidate_priority(1, kind),
            host=path.address[0],
            port=path.address[1],
            type=kind,
        )
        return path

    def path_to(self, local_address: str) -> LinkPath | None:
        """That by which something came to that local address; None if there is none to answer from."""
        path = self._paths.get(local_address) or next((p for p in self.paths() if p.name == local_address), None)
        return path if path is not None and hasattr(path, "local_candidate") else None

    def receive_check(self, request: bytes, attributes: Attributes, source: Address, local_address: str) -> bool:
        """Answer what the peer asks once ICE is done. False: that is not what this is."""
        after = self._continuity
        if after is None or self._closing:
            return False
        return after.receive_check(request, attributes, source, local_address)


def _nothing() -> None:
    pass


def _ignore(what: bool | float) -> None:
    pass


def _nowhere(address: Address) -> bool:
    return False
