"""The address book: under which addresses this machine can be reached, kept for all links (RFC 8445 section 5.1).

Local addresses, what STUN servers see of them, what a router has been told to map, and relay candidates. A link takes
a snapshot; nothing is asked for one link alone, and only what has never been asked, or not for a while, is waited for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aioice.ice import get_host_addresses

from meshd.config_checks import split_address
from meshd.core.events import AddressesChanged
from meshd.ice_servers import parse_ice_server
from meshd.links.demux import Address
from meshd.links.netlink import AddressWatch
from meshd.links.reflections import Reflections
from meshd.links.sockets import LinkSockets
from meshd.links.statistics import address_text
from meshd.links.turn import Relays, RelaySocket, TurnConfig
from meshd.special_addresses import is_loopback, is_public
from meshd.wire.session_description import MAX_CANDIDATES

# Policy
LOOK_INTERVAL = 0.5  # seconds that a look at this machine's addresses holds; what changes is told by the kernel
LOOPBACK_ADDRESS = "127.0.0.1"
KEEPALIVE_INTERVAL = 15.0  # seconds; the shortest lives of mappings in the field are 20 to 30 (RFC 4787 wants 120)
SETTLE_INTERVAL = 0.2  # seconds; one change of network comes as several from the kernel
MAX_REFLECTIVE = 2  # candidates for one local address: a second one tells the peer that the router is strict


class AddressConfig(TurnConfig, Protocol):
    """What the address book reads of ``meshd.config.LinksConfig``."""

    @property
    def allow_loopback(self) -> bool:
        """Whether 127.0.0.1 is offered too."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Use only these local addresses; empty: all."""

    @property
    def announce(self) -> tuple[str, ...]:
        """Where a router forwards UDP to our port, by hand: ``address:port`` each."""

    @property
    def ice(self) -> str:
        """``none``, ``mesh``, ``stun``, ``turn`` or ``relay_only``."""

    @property
    def stun_servers(self) -> tuple[str, ...]:
        """STUN servers of others, as URIs."""

    @property
    def stun_respond(self) -> bool:
        """Whether we answer STUN."""

    @property
    def lab_addresses(self) -> bool:
        """Whether documentation addresses count as public."""

    @property
    def gather_timeout(self) -> float:
        """Seconds to wait for STUN and TURN servers."""


class PortMapping(Protocol):
    """What a router has been asked for: what comes to ``external`` arrives at ``internal``."""

    @property
    def internal(self) -> Address:
        """One of our local addresses, with our port."""

    @property
    def external(self) -> Address:
        """Of the router."""


@dataclass(frozen=True, slots=True)
class _Announced:
    """A mapping that somebody has told the router of by hand. Which of our addresses it leads to is not known."""

    external: Address
    internal: Address = ("", 0)


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """One way to be reached. ``base`` is the local address that packets leave from, or the relay they go by."""

    kind: str
    host: str
    port: int
    base: str
    relay: RelaySocket | None = None


def host_addresses(config: AddressConfig, found: Sequence[str] | None = None) -> list[str]:
    """The local addresses to use, loopback last. ``found`` are this machine's; None: look."""
    if found is None:
        found = get_host_addresses(use_ipv4=True, use_ipv6=True)
    addresses = list(dict.fromkeys(a for a in found if not is_loopback(a)))
    if config.allow_loopback:
        # aioice never offers loopback, and is right about real networks: only the peer's own machine could answer.
        addresses.append(LOOPBACK_ADDRESS)
        addresses += [a for a in config.addresses if a not in addresses and is_loopback(a)]
    if config.addresses:
        addresses = [a for a in addresses if a in config.addresses]
    return addresses[:MAX_CANDIDATES]


class AddressBook:
    """Owned by ``LinkPort``. ``deliver`` gets ``AddressesChanged``, the first some time after ``begin``.

    ``complain`` gets what no single link can be blamed for. Raises ConfigError if the TURN credentials or the CA file
    cannot be read.
    """

    def __init__(
        self,
        config: AddressConfig,
        sockets: LinkSockets,
        deliver: Callable[[AddressesChanged], None],
        counters: Counter[str],
        complain: Callable[[Exception], None],
    ) -> None:
        self._config = config
        self._sockets = sockets
        self._deliver = deliver
        self._counters = counters
        self._reflections = Reflections(sockets, counters, self._touch)
        self._relays: Relays | None = None
        if config.ice in ("turn", "relay_only"):
            self._relays = Relays(config, sockets.demux, counters, complain)
            self._relays.on_change = self._touch
        self._announced = tuple(_Announced(split_address(text)) for text in config.announce)
        self._mappings: tuple[PortMapping, ...] = self._announced
        self._watch: AddressWatch | None = None
        self._told: AddressesChanged | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._holders = 0
        self._hosts: list[str] = []
        self._looked_at = -LOOK_INTERVAL
        self._keeping: asyncio.TimerHandle | None = None
        self._begun = False
        self._closed = False
        self.use_servers(())

    # -- what it is told ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Watch our addresses from now on, and tell of them."""
        if not self._begun:
            self._begun = True
            try:
                self._watch = AddressWatch(self._touch)
            except OSError:
                self._counters["netlink_unavailable"] += 1
            self._touch()

    def use_servers(self, servers: Iterable[str]) -> None:
        """These (``host:port``) are the mesh's own STUN servers."""
        asked: list[str] = []
        if self._config.ice in ("mesh", "stun", "turn"):
            asked += servers
        if self._config.ice in ("stun", "turn"):
            for text in self._config.stun_servers:
                server = parse_ice_server(text, "stun")
                asked.append(address_text(server.host, server.port))
        if self._config.ice == "turn":  # what speaks TURN over UDP speaks STUN, on the same port
            servers_of_turn = [parse_ice_server(text, "turn", "turns") for text in self._config.turn_servers]
            asked += [address_text(s.host, s.port) for s in servers_of_turn if s.transport == "udp"]
        self._reflections.use(asked)

    def set_mappings(self, mappings: Iterable[PortMapping]) -> None:
        """These are all the port mappings there are, besides those of the configuration."""
        self._mappings = (*self._announced, *mappings)
        self._touch()

    def hold(self) -> None:
        """An offer is out that names our reflexive addresses: keep their mappings alive until ``release``."""
        self._holders += 1
        if self._keeping is None and not self._closed:
            self._keeping = asyncio.get_running_loop().call_later(KEEPALIVE_INTERVAL, self._keep_alive)

    def release(self) -> None:
        """That offer has been taken, or is given up."""
        self._holders -= 1

    async def close(self) -> None:
        """Free everything, in a second or so."""
        self._closed = True
        for timer in (self._telling, self._keeping):
            if timer is not None:
                timer.cancel()
        if self._watch is not None:
            self._watch.close()
        self._reflections.close()
        if self._relays is not None:
            await self._relays.close()

    # -- what it knows ------------------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """A path is gone: what routers have mapped may be, too, so the next link waits until that is known."""
        self._reflections.doubt()

    async def settled(self) -> None:
        """Wait for answers that a snapshot would lack, at most ``gather_timeout`` seconds."""
        timeout = self._config.gather_timeout
        waiting = []
        if self._config.ice != "relay_only":
            waiting.append(self._reflections.settled(self._host_addresses(), timeout))
        if self._relays is not None:
            waiting.append(self._relays.settled(timeout))
        await asyncio.gather(*waiting)

    def _host_addresses(self) -> list[str]:
        """The local addresses, as of the last moment: to ask the kernel takes as long as a tenth of opening a link."""
        now = asyncio.get_running_loop().time()
        if now >= self._looked_at + LOOK_INTERVAL:
            self._looked_at, self._hosts = now, host_addresses(self._config)
        return self._hosts

    def snapshot(self) -> list[LocalCandidate]:
        """All there is now, in order of preference."""
        candidates: list[LocalCandidate] = []
        if self._config.ice != "relay_only":
            addresses = self._host_addresses()
            for address in addresses:
                shared = self._sockets.for_address(address)
                if shared is not None:
                    candidates.append(LocalCandidate("host", address, shared.port, address))
            candidates += [
                LocalCandidate("srflx", *mapped, base) for base, mapped in self._outside([c.base for c in candidates])
            ]
        relay = None if self._relays is None else self._relays.current
        if relay is not None:
            candidates = candidates[: MAX_CANDIDATES - 1]
            candidates.append(LocalCandidate("relay", *relay.relayed, relay.name, relay))
        unique = {(c.host, c.port): c for c in reversed(candidates)}
        return [c for c in candidates if unique[c.host, c.port] is c][:MAX_CANDIDATES]

    def bases(self) -> list[tuple[str, RelaySocket | None]]:
        """The local addresses, and the relay, that packets may leave from now, each with its name."""
        relay = None if self._relays is None else self._relays.current
        hosts = [] if self._config.ice == "relay_only" else self._host_addresses()
        return [*((address, None) for address in hosts), *([] if relay is None else [(relay.name, relay)])]

    def _outside(self, addresses: list[str]) -> list[tuple[str, Address]]:
        """Local addresses, and what they look like: by port mappings first, which let anybody in."""
        found = [(m.internal[0], m.external) for m in self._mappings if m.internal[0] in addresses]
        # A mapping that names no address of ours is for the port alone: any of that family will do.
        for mapping in self._mappings:
            if mapping.internal[0] not in addresses:
                same = [a for a in addresses if (":" in a) == (":" in mapping.external[0])]  # loopback is last
                found += [(same[0], mapping.external)] if same else []
        # Where a router lets anybody in, what it shows to single servers adds nothing, and would make it look strict.
        open_doors = {(base, external[0]) for base, external in found}
        for address in addresses:
            reflections = self._reflections.of(address)[:MAX_REFLECTIVE]
            found += [(address, mapped) for mapped in reflections if (address, mapped[0]) not in open_doors]
        return found

    # -- telling ------------------------------------------------------------------------------------------------------

    def _touch(self) -> None:
        """Something may have changed: look soon."""
        self._looked_at = -LOOK_INTERVAL
        if self._begun and self._telling is None and not self._closed:
            self._telling = asyncio.get_running_loop().call_later(SETTLE_INTERVAL, self._tell)

    def _tell(self) -> None:
        self._telling = None
        addresses = self._host_addresses()
        self._reflections.keep_addresses(addresses)
        ports = {a: shared.port for a in addresses if (shared := self._sockets.for_address(a)) is not None}
        reflexive = dict.fromkeys(address_text(*mapped) for _, mapped in self._outside(addresses))
        public = [(a, port) for a, port in ports.items() if self._is_public(a)]
        public += [m.external for m in self._mappings if self._is_public(m.external[0])]
        public.sort(key=lambda address: ":" in address[0])
        # Who shows relays alone does not want members to know its own addresses either.
        says_so = self._config.stun_respond and self._config.ice != "relay_only"
        event = AddressesChanged(
            tuple(addresses),
            tuple(reflexive),
            tuple(dict.fromkeys(address_text(*address) for address in public)) if says_so else (),
        )
        if event != self._told:
            self._told = event
            self._deliver(event)

    def _is_public(self, address: str) -> bool:
        return is_public(address, allow_documentation=self._config.lab_addresses)

    def _keep_alive(self) -> None:
        self._keeping = None
        if self._holders and not self._closed:
            self._reflections.ask(self._host_addresses())
            self._keeping = asyncio.get_running_loop().call_later(KEEPALIVE_INTERVAL, self._keep_alive)
