"""The network check of the control socket: asks whom it may, and puts what was seen into the fields of the answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio

from meshd.config import LinksConfig
from meshd.config_checks import split_address
from meshd.errors import Code, ControlError
from meshd.ice_servers import parse_ice_server
from meshd.netcheck.classification import FamilyReport, classify
from meshd.netcheck.observations import Address, Reply, Seen, Server, Source
from meshd.netcheck.prober import MAX_SERVERS, probe
from meshd.portmap.machine import RouterReport
from meshd.portmap.port_mapper import PortMapper
from meshd.portmap.words import describe

# Policy
SETTLE_TIMEOUT = 4.0  # seconds to wait for routers that are just being asked: all protocols take less than three


class NetworkCheck:
    """Runs one check at a time."""

    def __init__(self, config: LinksConfig, mapper: PortMapper) -> None:
        self.mesh_servers: tuple[str, ...] = ()
        """``host:port`` of those in the mesh that answer STUN, or of a token while it is being used."""
        self._config = config
        self._mapper = mapper
        self._is_running = False

    async def run(self, params: dict[str, Any]) -> dict[str, Any]:
        """Carry out ``net.check``. Raises ControlError."""
        servers = self._servers(params.get("servers") or ())
        if self._is_running:
            raise ControlError(Code.BUSY, "Another network check is running.")
        self._is_running = True
        try:
            return await self._check(servers, float(params["timeout"]))
        finally:
            self._is_running = False

    async def _check(self, servers: list[Server], timeout: float) -> dict[str, Any]:
        seen: list[Seen] = []

        async def ask() -> None:
            seen.append(await probe(servers, timeout, self._config.addresses))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with trio.move_on_after(SETTLE_TIMEOUT):
                await self._mapper.settled()
        outside = [mapping.external for mapping in self._mapper.mappings()]
        outside += [split_address(text) for text in self._config.announce]
        has_mapping = any(":" not in address for address, _ in outside)
        report = classify(seen[0], has_mapping=has_mapping, allow_documentation=self._config.lab_addresses)
        return {
            "ipv4": _family(report.ipv4),
            "ipv6": _family(report.ipv6),
            "port_mapping": [_router(router) for router in self._mapper.reports()],
            "servers": [_server(reply) for reply in seen[0].replies],
            "verdict": report.verdict,
            "expectation": report.expectation,
            "unknown": [*report.unknown, *self._not_done()],
        }

    def _servers(self, asked: Iterable[str]) -> list[Server]:
        found: list[Server] = []
        named: list[tuple[str, Source]] = [(text, "asked") for text in asked]
        if self._config.ice in ("stun", "turn"):
            named += [(text, "configured") for text in self._config.stun_servers]
        if self._config.ice in ("mesh", "stun", "turn"):
            named += [(text, "mesh") for text in self.mesh_servers]
        for text, source in named:
            try:
                server = parse_ice_server(text if text.startswith("stun:") else f"stun:{text}", "stun")
            except ValueError as error:
                raise ControlError(Code.INVALID_PARAMS, f"servers: {error}") from None
            if not any((known.host, known.port) == (server.host, server.port) for known in found):
                found.append(Server(server.host, server.port, source))
        return found[:MAX_SERVERS]

    def _not_done(self) -> list[str]:
        notes: list[str] = []
        if not self._mapper.is_enabled:
            notes.append("Routers were not asked for port mapping: the configuration ([links]) does not want it.")
        if self._config.stun_servers and self._config.ice not in ("stun", "turn"):
            notes.append(f'`stun_servers` were not asked, because of ice = "{self._config.ice}" ([links]).')
        return notes


def _shown(address: Address | None) -> str | None:
    if address is None:
        return None
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _family(report: FamilyReport) -> dict[str, Any]:
    return {
        "udp": report.udp,
        "local": report.local[0] if report.local else None,
        "external": _shown(report.external),
        "mapping": report.mapping,
        "filtering": report.filtering,
        "hairpin": report.is_hairpinned,
    }


def _router(report: RouterReport) -> dict[str, Any]:
    return {
        "gateway": report.gateway.address,
        "method": report.method,
        "external": _shown(report.external) if report.external and report.external[1] else None,
        "trouble": report.trouble,
        "answers": dict(report.answers),
        "says": describe(report),
    }


def _server(reply: Reply) -> dict[str, Any]:
    return {
        "server": str(reply.server),
        "source": reply.server.source,
        "family": reply.family,
        "address": _shown(reply.address),
        "external": _shown(reply.mapped),
        "rtt": None if reply.round_trip_time is None else round(reply.round_trip_time, 6),
        "error": reply.error or None,
        "two_addresses": reply.other is not None,
    }
