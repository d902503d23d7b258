"""One UDP socket that all links share: datagrams in, sorted by kind, and out.

IP_PKTINFO says which of our addresses a datagram came to, and chooses the one it leaves from. Read here and not by
asyncio's transport, which makes one call of ``recvfrom`` and one callback of each datagram: here one wake-up reads
many, and where the kernel can (GRO, GSO: Linux 5.0), one call takes or gives up to 64 KiB of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from aioice import stun

from meshd.links.consent import USERNAME, Attributes, attributes_of
from meshd.links.demux import MAX_STUN_FIRST_BYTE, Address, Demux, Kind, Receiver, kind_of

# Specification (udp(7), ip(7), ipv6(7); Python's socket module does not name all of them)
UDP_SEGMENT, UDP_GRO = 103, 104
IP_PKTINFO, IP_MTU_DISCOVER = 8, 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_DONT = 0  # no DF bit
PMTUDISC_PROBE = 3  # never fragment, and leave it to us to find out what fits
IN_PKTINFO = struct.Struct("=I4s4s")  # interface, local address, destination
IN6_PKTINFO = struct.Struct("=16sI")
MAX_DATAGRAM_SIZE = 65_507  # 2^16 - 1 less the headers of IPv4 and UDP; a batch that is segmented may not be longer
# What sendmsg(2) says when its source or the route is gone; EINVAL where IP_PKTINFO named an address that is not ours
NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EINVAL})
MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS, in one call; later kernels take 128

# Policy
MAX_READS = 8  # calls in one wake-up, of up to 64 KiB each; then the loop has its turn
ANCILLARY_SIZE = 128  # bytes; two control messages

OnStrayRequest = Callable[["SharedSocket", bytes, Address, str], None]


class Link(Receiver, Protocol):
    """What a socket wants of a link, besides what the demultiplexer does."""

    def receive_check(self, request: bytes, attributes: Attributes, source: Address, local_address: str) -> bool:
        """Answer a check of the usual kind. False: it is not."""

    def is_authentic(self, request: bytes, attributes: Attributes) -> bool:
        """Whether whoever sent this request knows the link's password."""

    def receive_request(self, request: stun.Message, source: Address, local_address: str) -> None:
        """Take a STUN request that names this link's ufrag; it came to ``local_address``."""


class _Sender:
    """What aioice's transactions send through."""

    def __init__(self, shared: SharedSocket, local_address: str | None) -> None:
        self._shared = shared
        self._local_address = local_address

    def send_stun(self, message: stun.Message, addr: Address) -> None:
        self._shared.send(bytes(message), addr, self._local_address)


class SharedSocket:
    """One UDP socket. Everything is called on asyncio's loop; only ``request`` waits.

    ``address`` is what it is bound to (``0.0.0.0`` and ``::`` are the wildcards), ``port`` its port.
    ``on_stray_request(self, request, source, local_address)`` gets STUN requests that name no link.
    """

    on_stray_request: OnStrayRequest | None = None

    def __init__(self, bound: socket.socket, demux: Demux[Link], counters: Counter[str]) -> None:
        self.family = bound.family
        name = bound.getsockname()
        self.address: str = name[0]
        self.port: int = name[1]
        self.transactions: dict[bytes, stun.Transaction] = {}  # those of all links, too
        self._socket = bound
        self._demux = demux
        self._counters = counters
        self._is_wildcard = ipaddress.ip_address(self.address).is_unspecified
        self._local_texts: dict[bytes, str] = {}
        self._sources: dict[str | None, list[tuple[int, int, bytes]]] = {None: []}
        self._can_segment = True
        asyncio.get_running_loop().add_reader(bound.fileno(), self._readable)

    def close(self) -> None:
        """Give the socket back."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` has been called: what is sent is dropped then."""
        return self._socket.fileno() < 0

    # -- out ----------------------------------------------------------------------------------------------------------

    def send(self, datagram: bytes, remote: Address, local_address: str | None = None) -> bool:
        """Send one datagram from that local address (None: the kernel chooses). What cannot leave is counted.

        False: there is no way there from that address, or it is gone. A full buffer, or a datagram too long for the
        way, is a loss like others.
        """
        try:
            self._socket.sendmsg((datagram,), self._source(local_address), 0, remote)
        except OSError as error:
            self._counters["datagram_unsent"] += 1
            return error.errno not in NO_WAY
        return True

    def send_batch(self, batch: bytes, size: int, remote: Address, local_address: str | None = None) -> bool:
        """Send what stands in ``batch`` as datagrams of ``size`` bytes, the last one perhaps shorter; see ``send``."""
        length = len(batch)
        if length <= size:
            return self.send(batch, remote, local_address)
        step = size * min(MAX_SEGMENTS, MAX_DATAGRAM_SIZE // size)
        position = 0
        while self._can_segment and position < length and step > size:
            part = batch[position : position + step] if length > step else batch
            segment = (socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))
            try:
                self._socket.sendmsg((part,), [segment, *self._source(local_address)], 0, remote)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.EIO, errno.ENOPROTOOPT):
                    # The way there cannot segment (no checksums in hardware, or a size above its MTU). One socket
                    # serves all ways, so what one of them refuses is sent singly, now and only now.
                    self._counters["segmentation_refused"] += 1
                    break
                self._counters["datagram_unsent"] += 1
                if error.errno in NO_WAY:
                    return False
            position += step
        for start in range(position, length, size):
            if not self.send(batch[start : start + size], remote, local_address):
                return False
        return True

    def let_fragment(self, allowed: bool) -> None:
        """Let IP cut what is sent from now on into fragments, or not. For a moment: the socket is everybody's."""
        level, discover = socket.IPPROTO_IP, IP_MTU_DISCOVER
        if self.family == socket.AF_INET6:
            level, discover = socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER
        with contextlib.suppress(OSError):
            self._socket.setsockopt(level, discover, PMTUDISC_DONT if allowed else PMTUDISC_PROBE)

    def _source(self, local_address: str | None) -> list[tuple[int, int, bytes]]:
        if not self._is_wildcard:
            return []
        source = self._sources.get(local_address)
        if source is None:
            assert local_address is not None
            packed = socket.inet_pton(self.family, local_address)
            if self.family == socket.AF_INET:
                source = [(socket.IPPROTO_IP, IP_PKTINFO, IN_PKTINFO.pack(0, packed, bytes(4)))]
            else:
                source = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, IN6_PKTINFO.pack(packed, 0))]
            self._sources[local_address] = source
        return source

    async def request(
        self,
        message: stun.Message,
        address: Address,
        local_address: str | None = None,
        *,
        retransmissions: int | None = None,
    ) -> stun.Message:
        """Ask a STUN server; its response. Raises stun.TransactionError: no response in time, or an error for one."""
        sender = _Sender(self, local_address)
        transaction = stun.Transaction(message, address, sender, retransmissions=retransmissions)
        self.transactions[message.transaction_id] = transaction
        try:
            response, _ = await transaction.run()
        finally:
            del self.transactions[message.transaction_id]
        return response

    # -- in -----------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        receive = self._socket.recvmsg
        deliver = self._demux.deliver
        try:
            for _ in range(MAX_READS):
                data, ancillary, _flags, name = receive(65_536, ANCILLARY_SIZE)
                source = name if len(name) == 2 else name[:2]
                size = 0
                for level, kind, value in ancillary:
                    if kind == UDP_GRO and level == socket.SOL_UDP:
                        size = int.from_bytes(value, sys.byteorder)
                if not size or size >= len(data):
                    if kind_of(data) is Kind.DTLS:
                        deliver(data, source)
                    else:
                        self._sort(data, source, ancillary)
                    continue
                for start in range(0, len(data), size):
                    datagram = data[start : start + size]
                    if kind_of(datagram) is Kind.DTLS:
                        deliver(datagram, source)
                    else:
                        self._sort(datagram, source, ancillary)
        except BlockingIOError:
            pass
        except OSError:
            self._counters["receive_failed"] += 1
        self._demux.flush()

    def _sort(self, datagram: bytes, source: Address, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Everything but DTLS. Upstream parses each datagram as STUN first, and dies of some malformed ones."""
        kind = kind_of(datagram)
        if kind is Kind.EMPTY:
            self._counters["datagram_empty"] += 1
        elif kind is Kind.OTHER:
            self._counters["stun_malformed" if datagram[0] <= MAX_STUN_FIRST_BYTE else "datagram_unknown"] += 1
        elif kind is Kind.STUN_RESPONSE:
            if self._demux.take_response(datagram, source):
                return
            message = self._parse(datagram)
            if message is None:
                return
            transaction = self.transactions.get(message.transaction_id)
            if transaction is None:
                self._counters["stun_late"] += 1
            else:
                transaction.response_received(message, source)
        else:
            self._request(datagram, source, self._local_address(ancillary))

    def _parse(self, datagram: bytes) -> stun.Message | None:
        try:
            return stun.parse_message(datagram)
        except Exception:  # struct.error, KeyError, UnicodeError, AssertionError: whatever the sender thought of
            self._counters["stun_malformed"] += 1
            return None

    def _request(self, datagram: bytes, source: Address, local_address: str) -> None:
        attributes = attributes_of(datagram)
        username = attributes.get(USERNAME)
        link = None
        if username is not None:
            link = self._demux.of_username(username[1])
            if link is not None and link.receive_check(datagram, attributes, source, local_address):
                return
        if link is not None:
            # Upstream takes a third of a millisecond for a message, proven or not, and answers the others too.
            if not link.is_authentic(datagram, attributes):
                self._counters["stun_unauthentic"] += 1
                return
            message = self._parse(datagram)
            if message is not None:
                link.receive_request(message, source, local_address)
        elif username is None and self.on_stray_request is not None:
            self.on_stray_request(self, datagram, source, local_address)
        else:
            self._counters["stun_stray"] += 1  # no answer: it would only tell which names exist

    def _local_address(self, ancillary: list[tuple[int, int, bytes]]) -> str:
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                packed = value[4:8]
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                packed = value[:16]
            else:
                continue
            text = self._local_texts.get(packed)
            if text is None:
                if len(self._local_texts) > 256:  # 127.0.0.0/8 is ours in full
                    self._local_texts.clear()
                text = self._local_texts[packed] = socket.inet_ntop(self.family, packed)
            return text
        return self.address
