"""How likely a link from elsewhere is, told from the candidates: before, as a warning; afterwards, as the reason."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.config import LinksConfig
from meshd.core.commands import CloseLink, PrepareLink
from meshd.core.context import Context
from meshd.core.events import AddressesChanged, LinkPrepared
from meshd.ids import LinkId
from meshd.special_addresses import is_public
from meshd.wire.session_description import Candidate, SessionDescription, is_mdns_name

# Policy
REFRESH_INTERVAL = 600.0  # seconds; networks change


@dataclass(frozen=True, slots=True)
class _Reach:
    """What a description says of its machine. ``strict``: its router uses another port for each destination."""

    some: bool
    public: bool
    reflexive: bool
    relayed: bool
    strict: bool

    @property
    def beyond(self) -> bool:
        """Whether another network has an address to try."""
        return self.public or self.reflexive or self.relayed


def _reach_of(description: SessionDescription, links: LinksConfig) -> _Reach:
    public = False
    own = 0  # addresses of IPv4, each of which a router may show under one port
    seen: dict[str, int] = {}
    for candidate in description.candidates:
        if candidate.kind in ("srflx", "prflx"):
            seen[candidate.host] = seen.get(candidate.host, 0) + 1
        elif candidate.kind == "host":
            public = public or _is_public(candidate, links)
            own += not is_mdns_name(candidate.host) and ":" not in candidate.host
    relayed = any(candidate.kind == "relay" for candidate in description.candidates)
    strict = any(count > own for count in seen.values()) if own else False
    return _Reach(bool(description.candidates), public, bool(seen), relayed, strict)


_HOW = {  # to get an address that other networks can try, by links.ice
    "none": 'set links.ice to "mesh" or more',
    "mesh": "give one machine of the mesh a public address or port mapping, run meshd-push on one, or name a STUN "
    'server (links.stun_servers, links.ice = "stun")',
    "stun": "look at links.stun_servers: none has answered",
    "turn": "look at links.stun_servers and links.turn_servers: none has answered",
    "relay_only": "look at links.turn_servers and their credentials: none has given a relay candidate",
}


def warnings_about(description: SessionDescription, links: LinksConfig) -> list[str]:
    """What our own candidates say about being reached from another network.

    With loopback allowed the mesh is a laboratory on one machine, and nobody comes from elsewhere.
    """
    if links.allow_loopback:
        return []
    reach = _reach_of(description, links)
    if not reach.some:
        if links.ice == "relay_only":
            return [f'With links.ice = "relay_only" no link can be made at the moment: {_HOW[links.ice]}.']
        return ["This machine has no usable network address at the moment: no link can be made."]
    if reach.public or reach.relayed:
        return []
    if reach.strict:
        return [
            "This machine is behind a strict (symmetric) NAT router: it connects to machines with a public address "
            "and to those behind most home routers' more lenient kind, but not to all. A port mapping, IPv6 or a "
            "TURN server (links.turn_servers) would."
        ]
    if reach.reflexive:
        return [
            "This machine is behind a NAT router. Most pairs of such machines can connect; when both routers are "
            "strict (symmetric), they cannot."
        ]
    return [
        "This machine has only private addresses: machines on the same network will connect, others most likely will "
        f"not. Public IPv6 would do; or {_HOW[links.ice]}."
    ]


def why_no_link(local: SessionDescription | None, remote: SessionDescription | None, links: LinksConfig) -> str:
    """A sentence on why these two did not connect, as far as their candidates tell."""
    if local is None or remote is None:
        return "The other side's description never came."
    here, there = _reach_of(local, links), _reach_of(remote, links)
    if not here.some:
        return f"This machine has no usable network address{_hint(links)}."
    if not there.some:
        return "The other machine has no usable network address."
    if not here.beyond and _knows_way(local, remote, links):
        return (
            "The other machine has a public address, yet no packet came through: a firewall that blocks UDP, most "
            "likely here; `meshctl netcheck` tells. Where only TCP gets out, a TURN server helps (links.turn_servers "
            "with turns:)."
        )
    if there.relayed and links.ice in ("none", "mesh"):
        return (
            f'The other machine offered a relay candidate, which links.ice = "{links.ice}" keeps this one from '
            'using, and from answering: set it to "stun" or "turn".'
        )
    if here.relayed and not there.relayed:
        return (
            "No packet came through, nor by this machine's relay candidate: the other machine answers there only if "
            'its links.ice is "stun" or "turn".'
        )
    if not there.beyond and _knows_way(remote, local, links):
        return (
            "This machine has a public address, yet no packet came through: a firewall that blocks UDP, on either "
            "side; `meshctl netcheck` tells."
        )
    if not here.beyond and not there.beyond:
        return (
            "Both machines offered private addresses only, so they connect only on one network: give both IPv6, or "
            f"{_HOW[links.ice]}."
        )
    if not here.beyond:
        return f"This machine offered private addresses only: give it IPv6, or {_HOW[links.ice]}."
    if not there.beyond:
        return "The other machine offered private addresses only: give it IPv6, or what STUN needs (see its status)."
    if here.strict and (there.strict or not there.public):
        which = "Both machines are" if there.strict else "This machine is"
        return (
            f"{which} behind a strict (symmetric) NAT router, and the other side's lets nobody in unasked: a port "
            "mapping or IPv6 on one side, or a TURN server (links.turn_servers), would help."
        )
    if there.strict and not here.public:
        return (
            "The other machine is behind a strict (symmetric) NAT router, and this one's lets nobody in unasked: a "
            "port mapping or IPv6 on one side, or a TURN server (links.turn_servers), would help."
        )
    return (
        "Both offered addresses that should be reachable, yet no packet came through: a firewall that blocks UDP, "
        "two strict (symmetric) NAT routers, or the answer never arrived at the side that had offered."
    )


def _knows_way(near: SessionDescription, far: SessionDescription, links: LinksConfig) -> bool:
    """Whether ``near`` has an address from which it could reach a public one of ``far``, whatever routers do."""
    families = {":" in candidate.host for candidate in near.candidates if candidate.kind == "host"}
    return any(
        _is_public(candidate, links) and (":" in candidate.host) in families
        for candidate in far.candidates
        if candidate.kind == "host"
    )


def _is_public(candidate: Candidate, links: LinksConfig) -> bool:
    """An mDNS name is none: a browser that hides its address."""
    try:
        return is_public(candidate.host, allow_documentation=links.lab_addresses)
    except ValueError:
        return False


def _hint(links: LinksConfig) -> str:
    return f": {_HOW[links.ice]}" if links.ice == "relay_only" else ""


class Outlook:
    """What our own network allows, found out by gathering now and then for a link that is never made."""

    __slots__ = ("_ctx", "_is_open", "_scratch", "warnings")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._scratch: LinkId | None = None
        self._is_open = False  # strangers can reach us: a public address, or a port mapping
        self.warnings: list[str] = []

    def refresh(self) -> None:
        """Look again."""
        self._ctx.timer("outlook", b"", self._ctx.jitter(REFRESH_INTERVAL))
        if self._scratch is None:
            self._scratch = self._ctx.next_link()
            self._ctx.do(PrepareLink(self._scratch, offerer=True))

    def on_addresses(self, event: AddressesChanged) -> None:
        """Our own addresses, or what they look like from outside, are others than before."""
        self._is_open = bool(event.answering)
        self.refresh()

    def stop(self) -> None:
        """No mesh any more."""
        self._ctx.cancel_timer("outlook", b"")

    def is_ours(self, link: LinkId) -> bool:
        """Whether that link is the one that is only for looking."""
        return link == self._scratch

    def on_prepared(self, event: LinkPrepared) -> bool:
        """True if it was ours."""
        if event.link != self._scratch:
            return False
        self._scratch = None
        self._ctx.do(CloseLink(event.link))
        self.warnings = [] if self._is_open else warnings_about(event.description, self._ctx.config.links)
        return True

    def on_closed(self, link: LinkId) -> bool:
        """True if it was ours: gathering itself has failed."""
        if link != self._scratch:
            return False
        self._scratch = None
        self.warnings = warnings_about(SessionDescription("none", "", b"", "actpass"), self._ctx.config.links)
        return True
