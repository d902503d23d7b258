"""How likely a link from elsewhere is, told from the candidates: before, as a warning; afterwards, as the reason."""

from __future__ import annotations

import ipaddress

from meshd.config import LinksConfig
from meshd.core.commands import CloseLink, PrepareLink
from meshd.core.context import Context
from meshd.core.events import LinkPrepared
from meshd.ids import LinkId
from meshd.wire.session_description import SessionDescription

# Policy
REFRESH_INTERVAL = 600.0  # seconds; networks change


def _kinds(description: SessionDescription) -> tuple[bool, bool, bool, bool]:
    """Has: any candidate, public IPv6 or IPv4 of its own, server-reflexive, relayed."""
    public = reflexive = relayed = False
    for candidate in description.candidates:
        relayed = relayed or candidate.kind == "relay"
        reflexive = reflexive or candidate.kind in ("srflx", "prflx")
        try:
            public = public or (candidate.kind == "host" and ipaddress.ip_address(candidate.host).is_global)
        except ValueError:
            continue  # an mDNS name: a browser that hides its address
    return bool(description.candidates), public, reflexive, relayed


def warnings_about(description: SessionDescription, links: LinksConfig) -> list[str]:
    """What our own candidates say about being reached from another network.

    With loopback allowed the mesh is a laboratory on one machine, and nobody comes from elsewhere.
    """
    if links.allow_loopback:
        return []
    some, public, reflexive, relayed = _kinds(description)
    if not some:
        return ["This machine has no usable network address at the moment: no link can be made."]
    if public or relayed:
        return []
    if reflexive:
        return [
            "This machine is behind a NAT router. Most pairs of such machines can connect; when both routers are "
            "strict (symmetric), they cannot."
        ]
    return [
        "This machine has only private addresses and no STUN server: machines on the same network will connect, "
        "others most likely will not. Give it one in links.stun_servers, or a public IPv6 address."
    ]


def why_no_link(local: SessionDescription | None, remote: SessionDescription | None) -> str:
    """A sentence on why these two did not connect, as far as their candidates tell."""
    if local is None or remote is None:
        return "The other side's description never came."
    here, there = _kinds(local), _kinds(remote)
    if not here[0]:
        return "This machine has no usable network address."
    if not there[0]:
        return "The other machine has no usable network address."
    if not any(here[1:]) and not any(there[1:]):
        return (
            "Both machines offered private addresses only, so they connect only on one network: give both a STUN "
            "server (links.stun_servers) or IPv6."
        )
    if not any(here[1:]) or not any(there[1:]):
        which = "This" if not any(here[1:]) else "The other"
        return f"{which} machine offered private addresses only: give it a STUN server (links.stun_servers) or IPv6."
    return (
        "Both offered addresses that should be reachable, yet no packet came through: a firewall that blocks UDP, or "
        "two strict (symmetric) NAT routers."
    )


class Outlook:
    """What our own network allows, found out by gathering now and then for a link that is never made."""

    __slots__ = ("_ctx", "_scratch", "warnings")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._scratch: LinkId | None = None
        self.warnings: list[str] = []

    def refresh(self) -> None:
        """Look again."""
        self._ctx.timer("outlook", b"", self._ctx.jitter(REFRESH_INTERVAL))
        if self._scratch is None:
            self._scratch = self._ctx.next_link()
            self._ctx.do(PrepareLink(self._scratch, offerer=True))

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
        self.warnings = warnings_about(event.description, self._ctx.config.links)
        return True

    def on_closed(self, link: LinkId) -> bool:
        """True if it was ours: gathering itself has failed."""
        if link != self._scratch:
            return False
        self._scratch = None
        self.warnings = warnings_about(SessionDescription("none", "", b"", "actpass"), self._ctx.config.links)
        return True
