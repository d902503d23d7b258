"""UPnP-IGD, spoken with one router."""

from __future__ import annotations

import random
from collections.abc import Mapping

import trio

from meshd.errors import MalformedMessage
from meshd.portmap import igd
from meshd.portmap.exchange import http
from meshd.portmap.igd import Fault, Location, Service
from meshd.portmap.values import Address, Found, Gateway, Grant, Refusal

# Specification
MULTICAST_TTL = 2  # UPnP Device Architecture 2.0 section 1.3.2

# Policy
SEARCH_INTERVALS = (0.4, 0.6, igd.SEARCH_DELAY + 0.5)  # seconds after each round of searching; datagrams get lost
MAX_SEARCH_ANSWERS = 64  # datagrams looked at in one search: a house is full of devices, and one may flood
MAX_PORT_TRIES = 4  # ports outside that are tried while each belongs to somebody else

SILENT = Refusal("silent")


class IgdClient:
    """Implements ``meshd.portmap.values.MethodClient``. Finds the router's services once, and again when they fail."""

    def __init__(self, gateway: Gateway, rng: random.Random, group: Address = igd.SSDP_GROUP) -> None:
        self._gateway = gateway
        self._rng = rng
        self._group = group
        self._service: Service | None = None

    async def probe(self) -> Found | Refusal:
        """See ``MethodClient``."""
        self._service = None
        location = await self._search()
        if location is None:
            return SILENT
        answer = await http(self._gateway, "GET", location, {"Host": f"{location.host}:{location.port}"})
        if answer is None:
            return SILENT
        try:
            services = igd.decode_description(answer[1], location) if answer[0] == 200 else ()
        except MalformedMessage:
            return Refusal("malformed")
        if not services:
            return Refusal("no_service")
        self._service = await self._connected(services)
        return Found(await self._external_address())

    async def check(self, grant: Grant) -> Found | Refusal:
        """See ``MethodClient``. There is no epoch, but the entry itself can be asked for."""
        answer = await self._act("GetSpecificPortMappingEntry", igd.of_mapping(grant.external[1]))
        if isinstance(answer, Refusal):
            return answer
        if isinstance(answer, Fault):
            is_lost = answer.code == igd.NO_SUCH_ENTRY
        else:
            client, port = answer.get("NewInternalClient"), igd.port_in(answer, "NewInternalPort")
            is_lost = client != self._gateway.local_address or port != grant.internal_port
        return Found(await self._external_address(), is_lost=is_lost)

    async def request(self, port: int, wanted: Address | None, lifetime: float) -> Grant | Refusal:
        """See ``MethodClient``."""
        if self._service is None and isinstance(found := await self.probe(), Refusal):
            return found
        service = self._service  # of this request: another one beside it may find the router gone meanwhile
        if service is None:
            return SILENT
        outside = await self._external_address()
        if outside is None:
            return Refusal("no_external_address")
        external, lease = (wanted[1] if wanted else port), int(lifetime)
        refusal = SILENT
        for _ in range(MAX_PORT_TRIES):
            given = await self._add(service, port, external, lease)
            if isinstance(given, int):
                return Grant(port, (outside, given), None if lease == igd.UNLIMITED_LEASE else float(lease))
            if isinstance(given, Refusal):
                return given
            refusal = Refusal(given.name)
            if given.code in igd.CONFLICT:
                external = self._rng.randrange(1_024, 65_536)
            elif given.code == igd.SAME_PORT and external != port:
                external = port
            elif lease != igd.UNLIMITED_LEASE and given.code in (igd.PERMANENT_ONLY, *igd.UNCLEAR):
                lease = igd.UNLIMITED_LEASE
            else:
                break
        return refusal

    async def release(self, grant: Grant) -> None:
        """See ``MethodClient``."""
        if self._service is not None:
            await self._act("DeletePortMapping", igd.of_mapping(grant.external[1]))

    async def _search(self) -> Location | None:
        """Where the router describes itself. Other machines may answer what they like."""
        try:
            with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
                await socket.bind((self._gateway.local_address, 0))
                own = trio.socket.inet_aton(self._gateway.local_address)
                socket.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_IF, own)
                socket.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_TTL, MULTICAST_TTL)
                answers = 0
                for interval in SEARCH_INTERVALS:
                    for target in igd.SEARCH_TARGETS:
                        await socket.sendto(igd.search(target), self._group)
                    with trio.move_on_after(interval):
                        while answers < MAX_SEARCH_ANSWERS:
                            answer = await socket.recvfrom(igd.MAX_DATAGRAM_SIZE + 1)
                            answers += 1
                            if (location := self._believed(*answer)) is not None:
                                return location
        except OSError:  # the address has gone, or there is no way
            pass
        return None

    def _believed(self, data: bytes, source: tuple[str, int]) -> Location | None:
        if source[0] != self._gateway.address:
            return None
        try:
            return igd.decode_search_answer(data, source[0])
        except MalformedMessage:
            return None

    async def _connected(self, services: tuple[Service, ...]) -> Service:
        """The one that is up; if none says so, the one we like best."""
        if len(services) > 1:
            for service in services:
                answer = await self._act("GetStatusInfo", {}, service)
                if isinstance(answer, dict) and answer.get("NewConnectionStatus") == "Connected":
                    return service
        return services[0]

    async def _external_address(self) -> str | None:
        answer = await self._act("GetExternalIPAddress", {})
        return igd.address_in(answer) if isinstance(answer, dict) else None

    async def _add(self, service: Service, port: int, external: int, lease: int) -> int | Fault | Refusal:
        """The port outside that it is now."""
        arguments = igd.add_mapping(self._gateway.local_address, port, external, lease)
        answer = await self._act("AddPortMapping", arguments, service)
        if isinstance(answer, Fault) and answer.code in igd.CONFLICT and service.has_any_port:
            answer = await self._act("AddAnyPortMapping", arguments, service)
            if isinstance(answer, dict):
                return igd.port_in(answer, "NewReservedPort") or Refusal("malformed")
        return external if isinstance(answer, dict) else answer

    async def _act(
        self, action: str, arguments: Mapping[str, str], service: Service | None = None
    ) -> dict[str, str] | Fault | Refusal:
        service = service or self._service
        if service is None:
            return SILENT
        headers, body = igd.encode_action(service, action, arguments)
        at = service.control
        answer = await http(self._gateway, "POST", at, {"Host": f"{at.host}:{at.port}", **headers}, body)
        if answer is None:
            self._service = None  # restarted, perhaps, and then at another port
            return SILENT
        try:
            return igd.decode_action_answer(*answer, action)
        except MalformedMessage:
            return Refusal("malformed")
