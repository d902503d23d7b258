"""The port for links: carries out the core's link commands, delivers the events that come of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from meshd.core.commands import (
    CloseLink,
    CloseStream,
    ConnectLink,
    OpenStream,
    PrepareLink,
    ProbePath,
    SendHeartbeat,
    SendMessage,
    UseStunServers,
)
from meshd.core.events import Event, LinkClosed
from meshd.errors import ConfigError, LocalMisuse
from meshd.ids import LinkId
from meshd.links.addresses import AddressBook, AddressConfig, PortMapping
from meshd.links.certificate import DailyCertificate
from meshd.links.circuit_board import CircuitBoard, CircuitCommand
from meshd.links.demux import Address
from meshd.links.descriptor import Lent
from meshd.links.guest import Tasks, from_asyncio
from meshd.links.link import LINGER_TIMEOUT, Link
from meshd.links.names import NameResolver
from meshd.links.socket import SharedSocket
from meshd.links.sockets import LinkSockets, SocketsConfig
from meshd.links.statistics import LinkStatistics
from meshd.links.surroundings import LinkConfig, Surroundings
from meshd.wire.stun_responder import StunResponder

# Policy
CLOSE_TIMEOUT = LINGER_TIMEOUT + 1.0  # all links together; then the process goes on without their farewells

LinkCommand = (
    UseStunServers
    | PrepareLink
    | ConnectLink
    | ProbePath
    | SendMessage
    | SendHeartbeat
    | CloseLink
    | OpenStream
    | CloseStream
)
OnFault = Callable[[LinkId | None, BaseException], None]
TakeDescriptor = Callable[[int], Lent | None]  # what is kept under that number, and no more afterwards


class LinksConfig(LinkConfig, SocketsConfig, AddressConfig, Protocol):
    """What this room reads of ``meshd.config.LinksConfig``."""

    @property
    def max_links(self) -> int:
        """Links at one time, whatever their state."""


class LinkPort:
    """All links of this node. ``submit`` never waits, and never delivers an event before it has returned.

    Raises ConfigError at once if the configured UDP port cannot be had, or the TURN credentials cannot be read.

    ``counters`` counts what the network and the peers did wrong, by a short name each.
    """

    def __init__(
        self,
        config: LinksConfig,
        deliver: Callable[[Event], None],
        on_fault: OnFault,
        take_descriptor: TakeDescriptor,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._take_descriptor = take_descriptor
        self._config = config
        self._deliver = deliver
        self._links: dict[LinkId, Link] = {}
        self._leaving: dict[LinkId, Link] = {}  # closed by us, not gone yet
        self._certificate = DailyCertificate()
        self.sockets = LinkSockets(config, self.counters)
        try:
            self._book = AddressBook(config, self.sockets, deliver, self.counters, lambda error: on_fault(None, error))
        except ConfigError:
            self.sockets.close()
            raise
        if config.stun_respond:
            self._responder = StunResponder(self.counters)
            self.sockets.hear_stray_requests(self._answer_stray)
        self._tasks = Tasks(lambda error, name: on_fault(None, error))
        self._around = Surroundings(
            config=config,
            deliver=deliver,
            on_fault=on_fault,
            on_gone=self._gone,
            tasks=self._tasks,
            sockets=self.sockets,
            book=self._book,
            resolver=NameResolver(),
            counters=self.counters,
        )
        self._board = CircuitBoard(self._links.get, take_descriptor, deliver, self.counters)
        self._stopping = False

    def __len__(self) -> int:
        return len(self._links) + len(self._leaving)

    def submit(self, command: LinkCommand) -> None:
        """Carry out one command of the core. Commands for links that have just ended are counted and dropped.

        Raises LocalMisuse for a link id used twice or a message longer than ``MAX_MESSAGE_SIZE``.
        """
        if isinstance(command, PrepareLink):
            self._prepare(command)
            return
        if isinstance(command, UseStunServers):
            self._book.use_servers(command.servers)
            self._book.begin()
            return
        link = self._links.get(command.link)
        if link is None:
            self.counters["command_late"] += 1
        elif isinstance(command, ProbePath):
            link.probe()
        elif isinstance(command, SendMessage):
            link.send(command.data, command.priority, reliable=command.reliable)
        elif isinstance(command, SendHeartbeat):
            link.heartbeat(command.number)
        elif isinstance(command, ConnectLink):
            if not link.connect(command.remote, command.patience, resume=command.resume):
                raise LocalMisuse(f"link {command.link} has a remote description already")
        elif isinstance(command, OpenStream):
            link.open_stream(command.stream, self._take_descriptor(command.descriptor))
        elif isinstance(command, CloseStream):
            link.close_stream(command.stream, command.code)
        else:
            self._leaving[command.link] = self._links.pop(command.link)
            link.close()

    def submit_circuit(self, command: CircuitCommand) -> None:
        """The same for circuits, and for the streams that run over them. Raises LocalMisuse for a number in use."""
        self._board.submit(command)

    def renew_certificate(self) -> None:
        """Links that begin from now on show another certificate; those that are there go on with theirs."""
        self._certificate.renew()

    def certificate(self) -> tuple[bytes, float]:
        """Of links that begin now: the fingerprint (32 bytes), and how old it is in seconds."""
        fingerprint = self._certificate.current().fingerprint
        return fingerprint, self._certificate.age() or 0.0

    def statistics(self) -> dict[LinkId, LinkStatistics]:
        """What is known of each link that is up."""
        return {number: known for number, link in self._links.items() if (known := link.statistics()) is not None}

    def _prepare(self, command: PrepareLink) -> None:
        if command.link in self._links or command.link in self._leaving:
            raise LocalMisuse(f"there is a link {command.link} already")
        # Links that are still saying goodbye count too: they hold memory.
        if self._stopping or len(self) >= self._config.max_links:
            self.counters["link_limit"] += 1
            asyncio.get_running_loop().call_soon(self._deliver, LinkClosed(command.link, "link_limit"))
            return
        self._links[command.link] = Link(
            command.link,
            offerer=command.offerer,
            certificate=self._certificate.current(),
            around=self._around,
            resumes=None if command.resumes is None else self._links.get(command.resumes),
        )

    def set_mappings(self, mappings: Iterable[PortMapping]) -> None:
        """These are all the port mappings there are; new links offer them, and STUN is answered there."""
        self._book.set_mappings(mappings)

    def _answer_stray(self, shared: SharedSocket, request: bytes, source: Address, local_address: str) -> None:
        """A STUN request that names no link: of a member, or of a joiner with a token."""
        answer = self._responder.answer(request, source, asyncio.get_running_loop().time())
        if answer is not None:
            shared.send(answer, source, local_address)

    def _gone(self, link: LinkId) -> None:
        self._links.pop(link, None)
        self._leaving.pop(link, None)

    async def close(self) -> None:
        """Close every link, give them ``CLOSE_TIMEOUT`` seconds to send what is queued, free everything."""
        self._stopping = True
        self._board.end_all()
        for link in list(self._links):
            self.submit(CloseLink(link))
        await from_asyncio(self._tasks.end(CLOSE_TIMEOUT), "links-close")
        await from_asyncio(self._book.close(), "addresses-close")
        self.sockets.close()


@asynccontextmanager
async def open_links(
    config: LinksConfig,
    deliver: Callable[[Event], None],
    on_fault: OnFault | None = None,
    take_descriptor: TakeDescriptor = lambda number: None,
) -> AsyncIterator[LinkPort]:
    """Links under trio as guest (``meshd.links.guest.run``); closed, with everything they hold, at the end.

    ``deliver(event)`` is called from aiortc's callbacks, on this thread, and must not raise. ``on_fault(link, error)``
    gets, for the log, what went wrong inside a link (or, with None, inside this room). ``take_descriptor(number)``
    gives the file descriptor that an ``OpenStream`` names.
    """
    for name in ("aiortc", "aioice"):
        # Both say more to the log than anyone wants; what matters comes as events. Their own loggers inherit this.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    port = LinkPort(config, deliver, on_fault or (lambda link, error: None), take_descriptor)
    try:
        yield port
    finally:
        with trio.CancelScope(shield=True):
            await port.close()
