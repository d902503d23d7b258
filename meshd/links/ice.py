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

from meshd.links import consent
from meshd.links.checks import CHECK_RETRANSMISSIONS, KNOCK_INTERVAL, Checks
from meshd.links.consent import Attributes, Consent
from meshd.links.demux import STUN_HEADER_SIZE, Address
from meshd.links.socket import LinkSockets, SharedSocket
from meshd.links.turn import RelaySocket

# Policy
CHECK_INTERVAL = 0.02  # Ta, between two connectivity checks of one link (RFC 8445 section 14.2 allows 5 ms and more)
MAX_EARLY_RECORDS = 16  # datagrams of DTLS that come before ICE is done here; further ones are dropped, and sent again
MAX_PAIRS = 256  # candidate pairs of one link; aioice learns peer-reflexive candidates without end (RFC 8445 6.1.2.5)


class LinkPath(aioice_ice.StunProtocol):
    """One local address of a link, on a socket that all links share: what aioice takes for a socket of its own."""

    receiver: IceConnection

    def __init__(self, connection: IceConnection, shared: SharedSocket | RelaySocket, address: str) -> None:
        super().__init__(connection)
        self.transactions = shared.transactions  # responses are found by their transaction id alone
        self.address: Address = (address, shared.port)
        self.shared = shared
        self.seen_by: dict[Address, Address] = {}  # what we look like to each remote address that has answered

    async def request(
        self,
        request: stun.Message,
        addr: Address,
        integrity_key: bytes | None = None,
        retransmissions: int | None = CHECK_RETRANSMISSIONS,
    ) -> tuple[stun.Message, Address]:
        """Ask, and give up after 7.5 s where upstream takes 63. Raises stun.TransactionError."""
        response, source = await super().request(request, addr, integrity_key, retransmissions)
        self.seen_by[addr] = response.attributes.get("XOR-MAPPED-ADDRESS", self.address)
        return response, source

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        """Send a STUN message. Nothing here can fail: retransmissions come due after the end, too."""
        self.shared.send(bytes(message), addr, self.address[0])

    async def send_data(self, data: bytes, addr: Address) -> None:
        """Send one datagram."""
        self.shared.send(data, addr, self.address[0])

    def send_batch(self, batch: bytes, size: int, addr: Address) -> None:
        """Send datagrams of ``size`` bytes, the last one perhaps shorter."""
        self.shared.send_batch(batch, size, addr, self.address[0])

    async def close(self) -> None:
        """The socket stays: it is everybody's."""


class IceConnection(Checks):
    """aioice's connection for exactly one component; its candidates come from ``meshd.links.gathering``.

    ``on_record(datagram)`` gets DTLS records, and says whether they were meant for this link; ``on_flush()`` is called
    when no more come for now, ``on_lost()`` when the peer has taken its consent back by silence.
    """

    def __init__(
        self, *, controlling: bool, ufrag: str, pwd: str, sockets: LinkSockets, counters: Counter[str]
    ) -> None:
        super().__init__(ice_controlling=controlling, local_username=ufrag, local_password=pwd)
        self.counters = counters
        self.consent_expired = False
        self.is_handshaking = True
        self.on_record: Callable[[bytes], bool] = self._keep_record
        self.on_flush: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing
        self._early_records: list[bytes] = []
        self._consent: Consent | None = None
        self._paths: dict[str, LinkPath] = {}
        self._sockets = sockets
        sockets.demux.add(ufrag, self)

    # -- paths --------------------------------------------------------------------------------------------------------

    def add_path(self, address: str, relay: RelaySocket | None = None) -> LinkPath | None:
        """Use that local address from now on, or that relay, whose name it is; None: there is no socket for it."""
        shared = relay or self._sockets.for_address(address)
        if shared is None or self._closing:
            return None
        path = self._paths[address] = LinkPath(self, shared, shared.address if relay else address)
        self._protocols.append(path)
        return path

    def receive_request(self, request: stun.Message, source: Address, local_address: str) -> None:
        """Answer a connectivity check of the peer."""
        path = self._paths.get(local_address)
        if path is None or not hasattr(path, "local_candidate"):
            self.counters["stun_elsewhere"] += 1  # an address that we have not offered
            return
        try:
            self.request_received(request, source, path)
        except Exception:  # an attribute is missing that aioice takes for granted
            self.counters["stun_malformed"] += 1

    def receive_record(self, datagram: bytes) -> bool:
        """Take DTLS records from an address that this link claims."""
        return self.on_record(datagram)

    def flush(self) -> None:
        """No more for now."""
        self.on_flush()

    def check_incoming(self, message: stun.Message, addr: Address, protocol: aioice_ice.StunProtocol) -> None:
        """An authentic check of the peer: where it came from is the peer's address, for DTLS too."""
        if len(self._check_list) >= MAX_PAIRS and not self._is_paired(protocol, addr):
            self.counters["candidate_overflow"] += 1
            return
        super().check_incoming(message, addr, protocol)
        self._sockets.demux.claim(self, addr, proven=True)

    def _is_paired(self, protocol: aioice_ice.StunProtocol, address: Address) -> bool:
        return any(pair.protocol is protocol and pair.remote_addr == address for pair in self._check_list)

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        """The description names that address, or a name that has been resolved to it."""
        super()._pair_remote_candidate(remote_candidate)
        if not self._closing:
            address = (remote_candidate._network_host, remote_candidate.port)
            self._sockets.demux.claim(self, address, proven=False)

    def _keep_record(self, datagram: bytes) -> bool:
        """Keep it until DTLS begins here. Upstream's queue has no end."""
        if len(self._early_records) >= MAX_EARLY_RECORDS:
            self.counters["datagram_overflow"] += 1
        else:
            self._early_records.append(datagram)
        return True

    def take_early_records(self) -> list[bytes]:
        """What came before DTLS began."""
        early, self._early_records = self._early_records, []
        return early

    def send_batch(self, batch: bytes, size: int) -> None:
        """Send datagrams of ``size`` bytes to the peer, the last one perhaps shorter; nowhere before ICE is done."""
        pair = self._nominated.get(1)
        if pair is not None:
            path = cast(LinkPath, pair.protocol)
            path.send_batch(batch, size, pair.remote_addr)

    async def close(self) -> None:
        """End it; nothing comes any more from the next datagram on."""
        self._sockets.demux.remove(self.local_username, self)
        if self._consent is not None:
            self._consent.stop()
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
        for early_check in self._early_checks:
            self.check_incoming(*early_check)
        self._early_checks.clear()
        self._early_checks_done = True

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
        self._keep_consent()

    def _check_list_maybe_fail(self) -> None:
        """Fail when all checks have. Upstream fails with nothing to check, too.

        A browser that hides its addresses names none that we could check, and will check ours.
        """
        if self._check_list:
            super()._check_list_maybe_fail()

    def _prune_components(self) -> None:
        """Keep the one component there is: upstream gives it up when the description names nothing to check."""

    # -- consent ------------------------------------------------------------------------------------------------------

    def _keep_consent(self) -> None:
        assert self.remote_password is not None
        role = consent.ICE_CONTROLLING if self.ice_controlling else consent.ICE_CONTROLLED
        self._consent = Consent(
            username=f"{self.remote_username}:{self.local_username}",
            key=self.remote_password,
            role=(role, self._tie_breaker),
            send=self._send_to_peer,
            expired=self._expired,
            outstanding=self._sockets.demux.awaiting,
        )

    def _send_to_peer(self, message: bytes) -> None:
        self.send_batch(message, len(message))

    def _expired(self) -> None:
        self.consent_expired = True
        self.on_lost()

    def receive_check(self, request: bytes, attributes: Attributes, source: Address, local_address: str) -> bool:
        """Answer what the peer asks all the time, on the pair in use. False: that is not what this is.

        Upstream's way takes a third of a millisecond, and ten of these come in every 5 s on every 10 links.
        """
        pair = self._nominated.get(1)
        ours, theirs = consent.ICE_CONTROLLED, consent.ICE_CONTROLLING
        if self.ice_controlling:
            ours, theirs = theirs, ours
        if (
            pair is None
            or pair.protocol is not self._paths.get(local_address)
            or pair.remote_addr != source
            or ours in attributes
            or theirs not in attributes
            or attributes[consent.USERNAME][1] != f"{self.local_username}:{self.remote_username}".encode()
        ):
            return False
        key = self.local_password.encode()
        if not consent.is_authentic(request, attributes, key):
            return False
        transaction = request[8:STUN_HEADER_SIZE]
        answer = consent.sealed(consent.RESPONSE, transaction, consent.mapped_address(source, transaction), key)
        self._send_to_peer(answer)
        return True


def _nothing() -> None:
    pass
