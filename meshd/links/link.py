"""One link: an ICE, a DTLS and an SCTP association, one data channel, and the order they come and go in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from meshd.core.events import (
    Event,
    LinkClosed,
    LinkConnected,
    LinkPrepared,
    MessageReceived,
    SendBufferHigh,
    SendBufferLow,
)
from meshd.errors import MalformedMessage
from meshd.ids import LinkId
from meshd.links.addresses import AddressBook
from meshd.links.certificate import LinkCertificate, fingerprint_of
from meshd.links.descriptor import Lent
from meshd.links.dtls import LinkDtls
from meshd.links.gathering import gather
from meshd.links.guest import Tasks
from meshd.links.ice import IceConnection
from meshd.links.names import NameResolver
from meshd.links.outbox import Outbox
from meshd.links.remote import RemoteConfig, add_addresses, add_names, dtls_role
from meshd.links.sctp import CHANNEL_ID, GuardedSctp
from meshd.links.socket import LinkSockets
from meshd.links.streams import BULK, LinkStreams
from meshd.links.webrtc import (
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCSctpCapabilities,
)
from meshd.wire.frame import FrameType, Reassembler, decode_frame, fragment
from meshd.wire.session_description import SessionDescription

# Specification
CHANNEL_LABEL = "meshd"

# Policy
SEND_MARK_SIZE = 16_384  # bytes handed to SCTP ahead of time: one frame, so that a more urgent one waits for one only
CANCEL_INTERVAL = 0.05
ICE_TIMEOUT = 9.5  # seconds in which the offerer, who has both descriptions, finds out that there is no way
LINGER_TIMEOUT = 2.0  # a link closed by us gets this long to send what is queued


class LinkConfig(RemoteConfig, Protocol):
    """What a link reads of ``meshd.config.LinksConfig``."""

    @property
    def connect_timeout(self) -> float:
        """Seconds from ``ConnectLink`` until the link must stand."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a link needs of the port it belongs to."""

    config: LinkConfig
    deliver: Callable[[Event], None]
    on_fault: Callable[[LinkId, BaseException], None]
    on_gone: Callable[[LinkId], None]
    tasks: Tasks
    sockets: LinkSockets
    book: AddressBook
    resolver: NameResolver
    counters: Counter[str]


class _LinkFailed(Exception):
    """The link cannot come to be; the argument is the reason for ``LinkClosed``."""


class Link:
    """One link from ``PrepareLink`` to its end. All its methods are called on asyncio's loop and none waits.

    A single task carries it through its life; whatever ends the link names a reason and cancels that task, whose last
    steps free everything. So there is one way out of every state.
    """

    def __init__(self, link: LinkId, *, offerer: bool, certificate: LinkCertificate, around: Surroundings) -> None:
        self._link = link
        self._offerer = offerer
        self._patience = 0.0  # seconds that the peer may begin later
        self._certificate = certificate
        self._around = around
        self._connection = IceConnection(
            controlling=offerer,
            ufrag=around.sockets.new_ufrag(),
            pwd=base64.b64encode(secrets.token_bytes(18)).decode(),
            sockets=around.sockets,
            counters=around.counters,
        )
        self._dtls = LinkDtls(self._connection, certificate, self._packet)
        self._sctp = GuardedSctp(self._dtls, self._misbehaved, self._sent_all)
        self._channel: RTCDataChannel | None = None
        self._outbox = Outbox()
        self._reassembler = Reassembler()
        self._streams = LinkStreams(
            link, queue=self._queue_bulk, wake=self._pump, tell=self._tell, counters=around.counters
        )
        self._pumping = False
        self._remote: asyncio.Future[SessionDescription] = asyncio.get_running_loop().create_future()
        self._up = asyncio.Event()
        self._close_asked = asyncio.Event()
        self._drained = asyncio.Event()
        self._naming: asyncio.Task[None] | None = None
        self._silent = False  # after CloseLink nothing more is said about this link
        self._begun = False  # the task has taken its first step
        self._ending = False  # a reason is known
        self._freeing = False  # the task is past everything that could be cancelled
        self._reason: str | None = None
        self._task = around.tasks.start(self._live(), f"link-{link}")

    # -- what the port asks -------------------------------------------------------------------------------------------

    def connect(self, remote: SessionDescription, patience: float = 0.0) -> bool:
        """Go on with that description, the peer perhaps ``patience`` seconds later; False if there is one already."""
        if self._remote.done():
            return False
        self._patience = patience
        self._remote.set_result(remote)
        return True

    def send(self, data: bytes, priority: int) -> None:
        """Queue one message."""
        if self._ending or self._silent or not self._up.is_set():
            self._around.counters["message_unsent"] += 1
            return
        if not self._outbox.put(fragment(data, priority), priority):
            self._end("send_overflow")
            return
        # Events never come from inside a command, so that the core is not entered twice.
        if self._outbox.crossed_high():
            asyncio.get_running_loop().call_soon(self._tell, SendBufferHigh(self._link))
        self._pump()

    def open_stream(self, stream: int, lent: Lent | None) -> None:
        """Run a stream's bytes between this link and a descriptor; None: there is none, so it has failed."""
        if self._ending or self._silent or not self._up.is_set():
            self._around.counters["command_late"] += 1  # LinkClosed is on its way, and ends the stream too
        else:
            self._streams.open(stream, lent)

    def close_stream(self, stream: int, code: int) -> None:
        """Tell the peer that a stream is over."""
        if self._up.is_set() and not (self._ending or self._silent):
            self._streams.close(stream, code)

    def close(self) -> None:
        """End the link without another event; what is queued is sent first."""
        self._silent = True
        self._streams.end_all()
        if self._up.is_set():
            self._close_asked.set()
        else:
            self._end("closed")

    # -- the life of a link -------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._begun = True
        try:
            await self._open()
            await self._close_asked.wait()
            await self._linger()
        except asyncio.CancelledError:
            pass  # this task is cancelled by _end() only, or because the loop is about to end
        except _LinkFailed as failure:
            self._reason = self._reason or str(failure)
        except Exception as error:
            self._reason = "fault"
            self._around.on_fault(self._link, error)
        self._ending = self._freeing = True
        self._streams.end_all()
        self._tell(LinkClosed(self._link, self._reason or "closed"))
        self._silent = True
        await self._free()
        self._around.on_gone(self._link)

    async def _open(self) -> None:
        candidates = await gather(self._connection, self._around.book)
        self._tell(
            LinkPrepared(
                self._link,
                SessionDescription(
                    ufrag=self._connection.local_username,
                    pwd=self._connection.local_password,
                    fingerprint=self._certificate.fingerprint,
                    setup="actpass" if self._offerer else "active",
                    candidates=candidates,
                ),
            )
        )
        self._around.book.hold()
        try:
            remote = await self._remote
            async with asyncio.timeout(self._around.config.connect_timeout + self._patience):
                await self._connect(remote)
        except TimeoutError:
            raise _LinkFailed("connect_timeout" if self._connection.selected else "ice_failed") from None
        finally:
            self._around.book.release()

    async def _connect(self, remote: SessionDescription) -> None:
        role = dtls_role(self._offerer, remote.setup)
        if role is None:
            raise _LinkFailed("bad_description")
        self._connection.remote_username, self._connection.remote_password = remote.ufrag, remote.pwd
        names = add_addresses(self._connection, remote, self._around.config)
        if names:
            naming = add_names(self._connection, names, self._around.resolver)
            self._naming = self._around.tasks.start(naming, f"link-{self._link}-names")
        try:
            # The answer may take its time to reach an offerer; who waits for one cannot know sooner.
            async with asyncio.timeout(ICE_TIMEOUT if self._offerer else None):
                await self._connection.connect()
        except ConnectionError:
            raise _LinkFailed("ice_failed") from None

        self._dtls.on("statechange", self._dtls_changed)
        self._connection.on_lost = self._dtls.end
        await self._dtls.handshake(role, remote.fingerprint)
        if self._dtls.state != "connected":
            raise _LinkFailed("dtls_failed")

        channel = RTCDataChannel(
            self._sctp, RTCDataChannelParameters(label=CHANNEL_LABEL, negotiated=True, id=CHANNEL_ID)
        )
        channel.bufferedAmountLowThreshold = SEND_MARK_SIZE
        channel.on("open", self._opened)
        channel.on("message", self._received)
        channel.on("close", self._channel_closed)
        channel.on("bufferedamountlow", self._pump)
        self._channel = channel
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=remote.max_message_size), remote.sctp_port)
        await self._up.wait()

    async def _linger(self) -> None:
        """Let what is queued reach the peer."""
        try:
            async with asyncio.timeout(LINGER_TIMEOUT):
                while self._outbox.size or self._sctp.has_unacknowledged:
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            self._around.counters["linger_timeout"] += 1

    async def _free(self) -> None:
        """Give back sockets, timers and tasks, whatever of them there is by now."""
        if self._channel is not None:
            self._channel.remove_all_listeners()
        self._dtls.remove_all_listeners()
        if self._naming is not None:
            self._naming.cancel()
        for stop in (self._sctp.stop, self._dtls.stop, self._connection.close):
            try:
                await stop()
            except Exception as error:
                self._around.on_fault(self._link, error)

    def _end(self, reason: str) -> None:
        if not self._ending:
            self._ending = True
            self._reason = reason
            self._cancel()

    def _cancel(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._begun:
            loop.call_soon(self._cancel)  # a task cancelled before its first step would never come to its last ones
        elif not self._freeing:
            self._task.cancel()
            # asyncio.wait_for(), which aiortc uses, may swallow a cancellation before Python 3.12: repeat until heard.
            loop.call_later(CANCEL_INTERVAL, self._cancel)

    def _tell(self, event: Event) -> None:
        if not self._silent:
            try:
                self._around.deliver(event)
            except Exception as error:  # a bug of ours: neither aiortc nor this link's task may take it for the peer's
                self._around.on_fault(self._link, error)

    # -- what aiortc says ---------------------------------------------------------------------------------------------

    def _opened(self) -> None:
        selected = self._connection.selected
        peer_certificate = self._dtls.peer_certificate
        if selected is None or peer_certificate is None:
            self._end("fault")
            return
        local, remote = selected.local_candidate, selected.remote_candidate
        self._up.set()
        # Straight from here, not from the task: the peer's first message may be in the very next datagram.
        self._tell(
            LinkConnected(
                self._link,
                local_fingerprint=self._certificate.fingerprint,
                remote_fingerprint=fingerprint_of(peer_certificate),
                local_kind=self._connection.local_kind(selected),
                remote_kind=remote.type,
                local_address=_address_text(local.host, local.port),
                remote_address=_address_text(remote.host, remote.port),
            )
        )

    def _received(self, data: bytes) -> None:
        if self._ending or self._silent:
            return
        try:
            frame = decode_frame(data)
            if frame.type in (FrameType.DATA, FrameType.CREDIT, FrameType.RESET):
                self._streams.on_frame(frame)
                return
            if frame.type != FrameType.MESSAGE:
                self._around.counters["frame_unknown"] += 1
                return
            message = self._reassembler.feed(frame)
        except MalformedMessage as error:
            self._misbehaved(error)
            return
        if message is not None:
            self._tell(MessageReceived(self._link, message))

    def _channel_closed(self) -> None:
        self._end("consent_expired" if self._connection.consent_expired else "closed_by_peer")

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed":
            self._channel_closed()

    def _packet(self, packet: bytes) -> None:
        if self._dtls._data_receiver is None:
            return  # we shall send an INIT ourselves, in a moment
        with contextlib.suppress(StopIteration):
            self._sctp._handle_data(packet).send(None)  # a coroutine that waits for nothing

    def _misbehaved(self, error: Exception) -> None:
        self._around.counters["peer_misbehaved"] += 1
        if not self._ending:
            self._around.on_fault(self._link, error)
        self._end("peer_misbehaved")

    def _queue_bulk(self, frame: bytes) -> None:
        if not self._outbox.put([frame], BULK):
            self._end("send_overflow")
        self._pump()

    def _sent_all(self) -> None:
        self._drained.set()

    def _pump(self) -> None:
        """Hand frames to SCTP while little waits there: what it has taken cannot be overtaken any more."""
        channel = self._channel
        if channel is None or self._ending or self._pumping:
            return
        self._pumping = True
        try:
            while channel.readyState == "open" and channel.bufferedAmount <= SEND_MARK_SIZE:
                # A stream that is looked at may end, and leave a last word in the outbox.
                frame = self._outbox.take() or self._streams.take() or self._outbox.take()
                if frame is None:
                    break
                channel.send(frame)
        finally:
            self._pumping = False
        if self._outbox.crossed_low():
            asyncio.get_running_loop().call_soon(self._tell, SendBufferLow(self._link))


def _address_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
