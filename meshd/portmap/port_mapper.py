"""Runs the port mapping: carries out what ``machine`` wants, and tells what may be advertised."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from meshd.portmap import gateways, igd, nat_pmp_client, pcp, pcp_client
from meshd.portmap.igd_client import IgdClient
from meshd.portmap.machine import Action, Check, Probe, Release, Request, RouterReport, Routers
from meshd.portmap.nat_pmp_client import NatPmpClient
from meshd.portmap.pcp_client import PcpClient
from meshd.portmap.values import Address, Gateway, MethodClient, MethodName, PortMapping

# Policy
LOOK_INTERVAL = 5.0  # seconds between two looks at routes and ports: two small files, a laptop moves to another network
RELEASE_TIMEOUT = 1.0  # seconds at the end in which routers are told; what they do not hear of expires by itself
MAX_ANNOUNCEMENT_SIZE = 1_100  # bytes; PCP's limit


class PortMappingConfig(Protocol):
    """What this room reads of ``meshd.config.LinksConfig``."""

    @property
    def port_mapping(self) -> bool:
        """Whether to ask routers at all."""

    @property
    def ice(self) -> str:
        """How far links may go: with ``none`` and ``relay_only`` no router is asked."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Use only these local addresses; empty: all."""

    @property
    def lab_addresses(self) -> bool:
        """Whether documentation addresses count as public."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where routers are found: another place in tests."""

    find: Callable[[PortMappingConfig], list[Gateway]] = lambda config: gateways.find(config.addresses)
    server_port: int = pcp.SERVER_PORT
    announcement_port: int = pcp.CLIENT_PORT
    group: Address = igd.SSDP_GROUP


class PortMapper:
    """Keeps the links' UDP ports mapped. ``counters`` counts what was asked of routers, by the kind of question.

    ``port_of`` gives the UDP port of links at a local address, 0 where there is none. ``deliver`` gets all mappings
    when they, or how routers do, have changed, from within ``run``. ``secret``, 16 to 64 bytes, stays the same from
    start to start.
    """

    def __init__(
        self,
        config: PortMappingConfig,
        port_of: Callable[[str], int],
        deliver: Callable[[tuple[PortMapping, ...]], None],
        secret: bytes,
        rng: random.Random,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._config = config
        self._port_of = port_of
        self._deliver = deliver
        self._secret = secret
        self._rng = rng
        self._around = surroundings or Surroundings()
        self._machine = Routers(allow_documentation=config.lab_addresses)
        self._clients: dict[tuple[Gateway, MethodName], MethodClient] = {}
        self._told: tuple[object, ...] = ()
        self._changed = trio.Event()
        self._wake = trio.Event()
        self._look_now = True

    @property
    def is_enabled(self) -> bool:
        """Whether the configuration lets routers be asked."""
        return self._config.port_mapping and self._config.ice not in ("none", "relay_only")

    def mappings(self) -> tuple[PortMapping, ...]:
        """What may be advertised now."""
        return self._machine.mappings()

    def reports(self) -> tuple[RouterReport, ...]:
        """How every router does."""
        return self._machine.reports()

    async def settled(self) -> None:
        """Wait until it is known of every router how it does."""
        while self.is_enabled and (self._look_now or not all(report.is_settled for report in self.reports())):
            await self._changed.wait()

    def look(self) -> None:
        """Addresses, routes or ports may have changed: look at once rather than within ``LOOK_INTERVAL``."""
        self._look_now = True
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask, renew and check until cancelled; then take back what was granted."""
        task_status.started()
        if not self.is_enabled:
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear_announcements)
                await self._turn(nursery)
        finally:
            self._machine.stop()
            with trio.move_on_after(RELEASE_TIMEOUT, shield=True):
                async with trio.open_nursery() as nursery:
                    self._carry_out(nursery)

    async def _turn(self, nursery: trio.Nursery) -> None:
        looked = -LOOK_INTERVAL
        while True:
            now = trio.current_time()
            if self._look_now or now >= looked + LOOK_INTERVAL:
                self._look_now, looked = False, now
                found = self._around.find(self._config)
                self._machine.set_routers({gateway: self._port_of(gateway.local_address) for gateway in found}, now)
            self._machine.handle_timer(now)
            self._carry_out(nursery)
            self._wake = trio.Event()
            deadline = self._machine.next_deadline()
            with trio.move_on_at(min(looked + LOOK_INTERVAL, deadline or trio.current_time() + LOOK_INTERVAL)):
                await self._wake.wait()

    def _carry_out(self, nursery: trio.Nursery) -> None:
        for action in self._machine.take_actions():
            self.counters[type(action).__name__.lower()] += 1
            nursery.start_soon(self._perform, action, self._client(action.gateway, action.method))
        known = {report.gateway for report in self._machine.reports()}
        for key in [key for key in self._clients if key[0] not in known]:
            del self._clients[key]
        mappings = self._machine.mappings()
        told = (mappings, *((r.gateway, r.method, r.external, r.trouble, r.is_settled) for r in self.reports()))
        if told != self._told:
            self._told = told
            self._deliver(mappings)
        self._changed.set()
        self._changed = trio.Event()

    async def _perform(self, action: Action, client: MethodClient) -> None:
        gateway, method = action.gateway, action.method
        match action:
            case Probe():
                self._machine.probed(gateway, method, await client.probe(), trio.current_time())
            case Check(grant=grant):
                self._machine.checked(gateway, grant, await client.check(grant), trio.current_time())
            case Request(port=port, wanted=wanted, lifetime=lifetime):
                answer = await client.request(port, wanted, lifetime)
                self._machine.requested(gateway, method, port, answer, trio.current_time())
            case Release(grant=grant):
                await client.release(grant)
        self._wake.set()

    def _client(self, gateway: Gateway, method: MethodName) -> MethodClient:
        key = gateway, method
        if key not in self._clients:
            made: MethodClient
            if method == "pcp":
                made = PcpClient(gateway, self._secret, self._around.server_port)
            elif method == "nat_pmp":
                made = NatPmpClient(gateway, self._around.server_port)
            else:
                made = IgdClient(gateway, self._rng, self._around.group)
            self._clients[key] = made
        return self._clients[key]

    async def _hear_announcements(self) -> None:
        """Routers tell all hosts (224.0.0.1) when they have restarted. Only a hint, and only from a router of ours.

        Several programs may want to hear that, so the port is shared; where it cannot be had, checks notice as well.
        """
        try:
            with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
                socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
                await socket.bind(("", self._around.announcement_port))
                while True:
                    self._announced(*await socket.recvfrom(MAX_ANNOUNCEMENT_SIZE))
        except OSError:
            self.counters["announcements_unheard"] += 1

    def _announced(self, data: bytes, source: tuple[str, int]) -> None:
        if source[1] != self._around.server_port:
            return
        epoch = pcp_client.announced_epoch(data)
        if epoch is None:
            epoch = nat_pmp_client.announced_epoch(data)
        if epoch is not None:
            self.counters["announcement"] += 1
            self._machine.announced(source[0], epoch, trio.current_time())
            self._wake.set()
