"""One link: an ICE, a DTLS and an SCTP association, two data channels, and the order they come and go in."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time

from meshd.core import events as ev
from meshd.errors import MalformedMessage
from meshd.ids import LinkId
from meshd.links.association import BULK_STREAM, CONTROL_STREAM, LinkAssociation, config_of, max_packet_size
from meshd.links.certificate import LinkCertificate, fingerprint_of
from meshd.links.circuits import Circuit, CircuitUser
from meshd.links.descriptor import Lent
from meshd.links.dtls import LinkDtls
from meshd.links.gathering import gather
from meshd.links.ice import IceConnection
from meshd.links.reasons import LinkFailed, reason_of_association
from meshd.links.remote import add_addresses, add_names, dtls_role, may_turn_to_ipv6
from meshd.links.resumption import FormerConnections
from meshd.links.statistics import LinkStatistics, statistics_of
from meshd.links.surroundings import Surroundings
from meshd.links.traffic import LinkTraffic
from meshd.special_addresses import is_loopback
from meshd.transport import events as transport
from meshd.transport.config import BASE_PACKET_SIZE
from meshd.wire.session_description import SessionDescription

# Policy
CANCEL_INTERVAL = 0.05
ICE_TIMEOUT = 9.5  # seconds in which the offerer, who has both descriptions, finds out that there is no way
LINGER_TIMEOUT = 2.0  # a link closed by us gets this long to send what is queued


class Link:
    """One link from ``PrepareLink`` to its end. All its methods are called on asyncio's loop and none waits.

    A single task carries it through its life; whatever ends the link names a reason and cancels that task, whose last
    steps free everything. So there is one way out of every state.
    """

    def __init__(
        self,
        link: LinkId,
        *,
        offerer: bool,
        certificate: LinkCertificate,
        around: Surroundings,
        resumes: Link | None = None,
    ) -> None:
        self._link = link
        self._offerer = offerer
        self._patience = 0.0  # seconds that the peer may begin later
        self._resumes = resumes  # another link that may go on over our path
        self._certificate: LinkCertificate = certificate if resumes is None else resumes._certificate
        self._around = around
        self._connection = IceConnection(
            controlling=offerer,
            ufrag=around.sockets.new_ufrag(),
            pwd=base64.b64encode(secrets.token_bytes(18)).decode(),
            sockets=around.sockets,
            counters=around.counters,
            bases=around.book.bases,
        )
        self._dtls = LinkDtls(self._connection, self._certificate)
        self._association: LinkAssociation | None = None  # from the moment that DTLS stands
        self._traffic = LinkTraffic(link, wake=self._pump, tell=self._tell, end=self._end, counters=around.counters)
        self._remote: asyncio.Future[SessionDescription] = asyncio.get_running_loop().create_future()
        self._up = asyncio.Event()
        self._close_asked = asyncio.Event()
        self._drained = asyncio.Event()
        self._naming: asyncio.Task[None] | None = None
        self._former = FormerConnections()
        self._silent = False  # after CloseLink nothing more is said about this link
        self._up_since = 0.0
        self._resume = False
        self._is_handed_over = False  # our path is another link's by now
        self._begun = False  # the task has taken its first step
        self._ending = False  # a reason is known
        self._freeing = False  # the task is past everything that could be cancelled
        self._reason: str | None = None
        self._task = around.tasks.start(self._live(), f"link-{link}")

    # -- what the port asks -------------------------------------------------------------------------------------------

    def connect(self, remote: SessionDescription, patience: float = 0.0, *, resume: bool = False) -> bool:
        """Go on with that description, the peer perhaps ``patience`` seconds later; False if there is one already.

        With ``resume`` our path is for the link that we were prepared to resume.
        """
        if self._remote.done():
            return False
        self._patience, self._resume = patience, resume
        self._remote.set_result(remote)
        return True

    def take_over(self, connection: IceConnection, fingerprint: bytes) -> bool:
        """Go on over that path, which belongs to this link from now on: an ICE restart (RFC 8842 section 4).

        False: this link is not up, or its peer's certificate has another fingerprint.
        """
        association = self._association
        if association is None or not self.is_resumable(fingerprint):
            return False
        self._former.add(self._connection)
        self._connection = connection
        self._dtls.go_by(connection)
        self._attach(association)
        association.path_works(moved=True)
        return True

    def is_resumable(self, fingerprint: bytes) -> bool:
        """Whether this link is up, and that is the fingerprint of its peer's certificate."""
        peer_certificate = self._dtls.peer_certificate
        is_there = self._up.is_set() and not (self._ending or self._silent) and peer_certificate is not None
        return is_there and fingerprint_of(peer_certificate) == fingerprint

    def probe(self) -> None:
        """Its path is in doubt: check all there are."""
        self._connection.probe()

    def send(self, data: bytes, priority: int, *, reliable: bool) -> None:
        """Queue one message. Raises LocalMisuse if it is longer than any, or not ``reliable`` and than a frame."""
        if self._ending or self._silent or not self._up.is_set():
            self._around.counters["message_unsent"] += 1
            return
        self._traffic.send(data, priority, reliable=reliable)

    def heartbeat(self, number: int) -> None:
        """Ask whether the peer lives."""
        if self._association is not None and not (self._ending or self._silent):
            self._association.heartbeat(number)

    def open_stream(self, stream: int, lent: Lent | None) -> None:
        """Run a stream's bytes between this link and a descriptor; None: there is none, so it has failed."""
        if self._ending or self._silent or not self._up.is_set():
            self._around.counters["command_late"] += 1  # LinkClosed is on its way, and ends the stream too
        else:
            self._traffic.streams.open(stream, lent)

    def close_stream(self, stream: int, code: int) -> None:
        """Tell the peer that a stream is over."""
        if self._up.is_set() and not (self._ending or self._silent):
            self._traffic.streams.close(stream, code)

    def open_circuit(self, circuit: int, user: CircuitUser) -> Circuit | None:
        """A circuit over this link; None if it is not up, when whoever asks is told so soon."""
        if self._ending or self._silent or not self._up.is_set():
            self._around.counters["command_late"] += 1
            return None
        return self._traffic.circuits.open(circuit, user)

    def close_circuit(self, circuit: int) -> None:
        """It is over here; the core tells the peer."""
        self._traffic.circuits.close(circuit)

    def close(self) -> None:
        """End the link without another event; what is queued is sent first."""
        self._silent = True
        self._traffic.end_all()
        if self._up.is_set():
            self._close_asked.set()
        else:
            self._end("closed")

    def statistics(self) -> LinkStatistics | None:
        """What is known of it now; None before it is up."""
        ends = self._connection.ends
        if self._association is None or ends is None or not self._up.is_set():
            return None
        return statistics_of(self._association, ends, self._traffic.outbox.size, time.monotonic() - self._up_since)

    # -- the life of a link -------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        self._begun = True
        try:
            await self._open()
            if not self._is_handed_over:
                await self._close_asked.wait()
                await self._linger()
        except asyncio.CancelledError:
            pass  # this task is cancelled by _end() only, or because the loop is about to end
        except LinkFailed as failure:
            self._reason = self._reason or str(failure)
        except Exception as error:
            self._reason = "fault"
            self._around.on_fault(self._link, error)
        self._ending = self._freeing = self._traffic.is_over = True
        self._traffic.end_all()
        self._tell(ev.LinkClosed(self._link, self._reason or "closed"))
        self._silent = True
        await self._free()
        self._around.on_gone(self._link)

    async def _open(self) -> None:
        candidates = await gather(self._connection, self._around.book, restart=self._resumes is not None)
        self._tell(
            ev.LinkPrepared(
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
            raise LinkFailed("connect_timeout" if self._connection.selected else "ice_failed") from None
        finally:
            self._around.book.release()

    async def _connect(self, remote: SessionDescription) -> None:
        role = dtls_role(self._offerer, remote.setup)
        if role is None:
            raise LinkFailed("bad_description")
        self._connection.remote_username, self._connection.remote_password = remote.ufrag, remote.pwd
        names = add_addresses(self._connection, remote, self._around.config)
        if names:
            naming = add_names(self._connection, names, self._around.resolver)
            self._naming = self._around.tasks.start(naming, f"link-{self._link}-names")
        if self._resume:
            self._begin_resumption(remote.fingerprint)
        else:
            self._resumes = None
        try:
            # The answer may take its time to reach an offerer; who waits for one cannot know sooner.
            async with asyncio.timeout(ICE_TIMEOUT if self._offerer else None):
                await self._connection.connect()
        except ConnectionError:
            raise LinkFailed("ice_failed") from None
        if self._resume:
            self._end_resumption(remote.fingerprint)
            return

        self._dtls.on("statechange", self._dtls_changed)
        await self._dtls.handshake(role, remote.fingerprint)
        if self._dtls.state != "connected":
            raise LinkFailed("dtls_failed")
        await self._up.wait()

    def _begin_resumption(self, fingerprint: bytes) -> None:
        """The peer may have our path before we have it, and the old link's records come by it."""
        old = self._resumes
        if old is None or not old.is_resumable(fingerprint):
            raise LinkFailed("nothing_to_resume")
        self._connection.is_handshaking = False
        self._connection.on_record = old._connection.receive_record
        self._connection.on_flush = old._connection.flush

    def _end_resumption(self, fingerprint: bytes) -> None:
        old, ends = self._resumes, self._connection.ends
        if old is None or ends is None or not old.take_over(self._connection, fingerprint):
            raise LinkFailed("nothing_to_resume")
        self._is_handed_over, self._resumes = True, None
        self._tell(ev.LinkResumed(old._link, self._link, *ends))
        self._silent = True

    async def _linger(self) -> None:
        """Let what is queued reach the peer."""
        try:
            async with asyncio.timeout(LINGER_TIMEOUT):
                while self._traffic.outbox.size or (self._association and self._association.has_unacknowledged):
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            self._around.counters["linger_timeout"] += 1

    async def _free(self) -> None:
        """Give back sockets, timers and tasks, whatever of them there is by now."""
        if self._naming is not None:
            self._naming.cancel()
        self._dtls.remove_all_listeners()
        if self._association is not None:
            self._association.end()
        self._former.end()
        for stop in () if self._is_handed_over else (self._dtls.stop, self._connection.close):
            try:
                await stop()
            except Exception as error:
                self._around.on_fault(self._link, error)

    def _end(self, reason: str) -> None:
        if not self._ending:
            self._ending = self._traffic.is_over = True
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

    def _tell(self, event: ev.Event) -> None:
        if not self._silent:
            try:
                self._around.deliver(event)
            except Exception as error:  # a bug of ours: this link's task may not take it for the peer's
                self._around.on_fault(self._link, error)

    # -- what DTLS and SCTP say ----------------------------------------------------------------------------------------

    def _dtls_changed(self) -> None:
        state = self._dtls.state
        if state == "connected":
            self._associate()
        elif state == "closed":
            self._end("consent_expired" if self._connection.consent_expired else "closed_by_peer")

    def _associate(self) -> None:
        """Begin SCTP, within the very call that ended the handshake: its first packet may follow in this datagram."""
        selected = self._connection.selected
        if selected is None:
            self._end("fault")
            return
        size = max_packet_size(selected.remote_addr, self._dtls.packet_overhead)
        if not is_loopback(selected.remote_addr[0]) and may_turn_to_ipv6(
            self._connection.paths(), self._connection.remotes()
        ):
            size = min(size, BASE_PACKET_SIZE)
        association = self._association = LinkAssociation(
            config_of(self._around.config.congestion, size),
            send=self._dtls.send,
            take=self._traffic.take,
            tell=self._happened,
            let_fragment=lambda allowed: self._connection.let_fragment(allowed),
            on_fault=self._fault,
        )
        self._dtls.on_packet = association.receive
        self._attach(association)
        association.connect()

    def _attach(self, association: LinkAssociation) -> None:
        self._connection.on_lost = self._dtls.end
        self._connection.on_flush = association.flush
        self._connection.on_path = association.path_works
        self._connection.on_unanswered = lambda elapsed: self._tell(ev.ProbeFailed(self._link, elapsed))
        association.on_stall = self._connection.probe

    def _happened(self, event: transport.Event) -> None:
        if isinstance(event, transport.Message):
            self._received(event)
        elif isinstance(event, transport.HeartbeatAcknowledged):
            self._tell(ev.HeartbeatAnswered(self._link, event.number))
        elif isinstance(event, transport.HeartbeatReceived):
            self._tell(ev.HeartbeatReceived(self._link))
        elif isinstance(event, transport.Drained):
            self._drained.set()
        elif isinstance(event, transport.Established):
            self._opened()
        elif isinstance(event, transport.StreamReset):
            self._end("closed_by_peer")  # its data channel is closed
        elif isinstance(event, transport.ChannelOpened):
            # Ours are agreed beforehand; a peer that names them all the same means them.
            if event.stream not in (CONTROL_STREAM, BULK_STREAM):
                self._misbehaved(MalformedMessage(f"a data channel on SCTP stream {event.stream}"))
        elif isinstance(event, transport.Closed):
            self._closed(event)

    def _closed(self, event: transport.Closed) -> None:
        if event.reason == "peer_misbehaved":
            self._misbehaved(MalformedMessage(event.detail))
        else:
            self._end(reason_of_association(event.reason))

    def _opened(self) -> None:
        ends = self._connection.ends
        peer_certificate = self._dtls.peer_certificate
        if ends is None or peer_certificate is None:
            self._end("fault")
            return
        self._up.set()
        self._up_since = time.monotonic()
        # Straight from here, not from the task: the peer's first message may be in the very next datagram.
        self._tell(ev.LinkConnected(self._link, self._certificate.fingerprint, fingerprint_of(peer_certificate), *ends))

    def _received(self, message: transport.Message) -> None:
        if self._ending or self._silent:
            return
        try:
            self._traffic.receive(message)
        except MalformedMessage as error:
            self._misbehaved(error)

    def _misbehaved(self, error: Exception) -> None:
        self._around.counters["peer_misbehaved"] += 1
        self._fault(error, "peer_misbehaved")

    def _fault(self, error: Exception, reason: str = "fault") -> None:
        """Something went wrong on this link, of ours if there is no other reason: the others go on."""
        if not self._ending:
            self._around.on_fault(self._link, error)
        self._end(reason)

    def _pump(self) -> None:
        """There may be something to send."""
        if self._association is not None and not self._ending:
            self._association.wake()
