"""ICE (RFC 8445) by aioice, mended where a link would be slow, deaf or dead by it.

Each override says what upstream (aioice 0.13) does; ``tests/links/test_ice.py`` fails without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

from aioice import Candidate, Connection, ConnectionClosed, stun
from aioice import ice as aioice_ice

from meshd.links.webrtc import RTCIceGatherer

# Specification
MAX_STUN_FIRST_BYTE = 3  # RFC 7983 section 7: what the first byte of a datagram says
DTLS_FIRST_BYTES = range(20, 64)
CONSENT_TIMEOUT = 30.0  # RFC 7675 section 5.1
CONSENT_INTERVAL = 5.0  # the same; drawn anew each time between 0.8 and 1.2 of it

# Policy
CHECK_INTERVAL = 0.02  # Ta, between two connectivity checks of one link (RFC 8445 section 14.2 allows 5 ms and more)
CONSENT_RETRANSMISSIONS = 3  # 0.5 + 1 + 2 + 4 s: answers count that take up to 7.5 s
MAX_RECEIVE_QUEUE = 1_024  # datagrams that wait for DTLS; beyond it they are dropped, as a full socket would


class LinkProtocol(aioice_ice.StunProtocol):
    """One UDP socket of a link. Takes STUN from anyone, DTLS from known addresses, and nothing else."""

    receiver: IceConnection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Know the socket from its first moment, so that a cancelled gathering cannot lose it."""
        super().connection_made(transport)
        self.receiver.adopt(self)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Sort a datagram by its first byte (RFC 7983).

        Upstream parses everything as STUN first, hands whatever is not STUN to DTLS from any source (so that anyone
        can race the peer's ClientHello), dies of an empty datagram in DTLS and of some malformed STUN right here.
        """
        assert isinstance(data, bytes)
        receiver = self.receiver
        if not data:
            receiver.counters["datagram_empty"] += 1
        elif data[0] in DTLS_FIRST_BYTES:
            if receiver.knows(self, (addr[0], addr[1])):
                receiver.data_received(data, 1)
            else:
                receiver.counters["datagram_foreign"] += 1
        elif data[0] > MAX_STUN_FIRST_BYTE:
            receiver.counters["datagram_unknown"] += 1
        else:
            try:
                stun.parse_message(data)
                super().datagram_received(data, addr)
            except Exception:  # struct.error, KeyError, UnicodeError, AssertionError: whatever the sender thought of
                receiver.counters["stun_malformed"] += 1

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        """Send, unless the socket is closing: a retransmission may come due after that."""
        if not self.transport.is_closing():
            super().send_stun(message, addr)


class IceConnection(Connection):
    """aioice's connection for exactly one component; its candidates come from ``meshd.links.gathering``."""

    def __init__(self, *, controlling: bool, ufrag: str, pwd: str, counters: Counter[str]) -> None:
        super().__init__(ice_controlling=controlling, local_username=ufrag, local_password=pwd)
        self.counters = counters
        self.consent_expired = False

    def adopt(self, protocol: LinkProtocol) -> None:
        """Own a socket from now on: ``close()`` closes it."""
        if self._closing:
            protocol.transport.abort()
        else:
            self._protocols.append(protocol)

    def gathered(self) -> None:
        """All local candidates there will be are known: connecting may begin."""
        self._local_candidates_start = self._local_candidates_end = True

    def add_local_candidate(self, candidate: Candidate) -> None:
        """List a candidate of ours."""
        self._local_candidates.append(candidate)

    def knows(self, protocol: LinkProtocol, address: tuple[str, int]) -> bool:
        """Whether that remote address was named in the description or has proved that it knows our password."""
        active = self._nominated.get(1)
        if active is not None and active.protocol is protocol and active.remote_addr == address:
            return True
        return any(pair.protocol is protocol and pair.remote_addr == address for pair in self._check_list)

    @property
    def selected(self) -> aioice_ice.CandidatePair | None:
        """The pair that carries data, once there is one."""
        return self._nominated.get(1)

    def data_received(self, data: bytes, component: int) -> None:
        """Queue a datagram for DTLS. Upstream's queue has no end."""
        if self._queue.qsize() >= MAX_RECEIVE_QUEUE:
            self.counters["datagram_overflow"] += 1
        else:
            super().data_received(data, component)

    async def get_event(self) -> aioice_ice.ConnectionEvent | None:
        """The next event. After the end upstream answers None at once, for which aiortc asks again, for ever."""
        return ConnectionClosed() if self._closed else await super().get_event()

    async def connect(self) -> None:
        """Check the pairs until one is nominated; raises ConnectionError if none can be.

        Upstream sleeps the whole interval after the last check too, when the answer came long before: 20 ms on each
        link. This waits for the verdict or the interval, whichever is first.
        """
        if self.remote_username is None or self.remote_password is None:
            raise ConnectionError("the remote ufrag and pwd are missing")
        for remote_candidate in self._remote_candidates:
            self._pair_remote_candidate(remote_candidate)
        self.sort_check_list()
        self._unfreeze_initial()
        for early_check in self._early_checks:
            self.check_incoming(*early_check)
        self._early_checks.clear()
        self._early_checks_done = True

        verdict = None
        while verdict is None and self._check_periodic():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    verdict = await self._check_list_state.get()
        if verdict is None:
            verdict = await self._check_list_state.get() if self._check_list else aioice_ice.ICE_FAILED
        for pair in self._check_list:
            if pair.task is not None:
                pair.task.cancel()
        if verdict != aioice_ice.ICE_COMPLETED:
            raise ConnectionError("no candidate pair works")
        self._query_consent_task = asyncio.create_task(self.query_consent(), name="ice-consent")

    async def query_consent(self) -> None:
        """Keep asking the peer whether it wants our packets (RFC 7675); close when it has not said so for 30 s.

        Upstream asks once every 5 s and waits 0.5 s: where round trips take longer than that (one's own bulk over a
        slow uplink suffices) every link dies after half a minute. Here requests overlap and late answers count.
        """
        loop = asyncio.get_running_loop()
        answered_at = loop.time()
        asking: set[asyncio.Task[None]] = set()

        async def ask(pair: aioice_ice.CandidatePair, key: bytes) -> None:
            nonlocal answered_at
            try:
                await pair.protocol.request(
                    self.build_request(pair, nominate=False),
                    pair.remote_addr,
                    integrity_key=key,
                    retransmissions=CONSENT_RETRANSMISSIONS,
                )
            except (stun.TransactionError, OSError):
                return
            answered_at = loop.time()

        assert self.remote_password is not None
        key = self.remote_password.encode()
        try:
            while loop.time() - answered_at <= CONSENT_TIMEOUT:
                await asyncio.sleep(CONSENT_INTERVAL * random.uniform(0.8, 1.2))
                for pair in list(self._nominated.values()):
                    task = asyncio.create_task(ask(pair, key), name="ice-consent-request")
                    asking.add(task)
                    task.add_done_callback(asking.discard)
            self.consent_expired = True
            self._query_consent_task = None  # close() would wait for this very task
            await self.close()
        finally:
            for task in asking:
                task.cancel()


class LinkGatherer(RTCIceGatherer):
    """aiortc's gatherer around our connection. Its own would ask a public STUN server if given no list."""

    def __init__(self, connection: IceConnection) -> None:
        super().__init__(iceServers=[])
        self._connection = connection

