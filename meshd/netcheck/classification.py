"""From what was seen to what it means: RFC 5780's words, and what to expect between two nodes like this one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshd.netcheck.observations import Address, Family, FamilySeen, Seen
from meshd.special_addresses import is_public

# ``dependent``: differs from server to server, and no server here can tell whether by its address or its port, too.
Behavior: TypeAlias = Literal[
    "none", "endpoint_independent", "address_dependent", "address_and_port_dependent", "dependent", "unknown"
]
Verdict: TypeAlias = Literal["direct", "probably_direct", "through_others", "unknown"]
Udp: TypeAlias = Literal["open", "silent", "unknown", "no_address"]


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """One address family. ``mapping`` and ``filtering`` as in RFC 4787 sections 4.1 and 5; ``none``: no NAT, no filter.

    ``udp``: ``silent`` if servers were asked and none answered, ``unknown`` if there was nobody to ask.
    """

    family: Family
    udp: Udp
    local: Address | None
    external: Address | None
    mapping: Behavior
    filtering: Behavior
    is_hairpinned: bool | None


@dataclass(frozen=True, slots=True)
class Report:
    """What it all means. ``expectation`` is one sentence, ``unknown`` sentences on what could not be found out."""

    ipv4: FamilyReport
    ipv6: FamilyReport
    verdict: Verdict
    expectation: str
    unknown: tuple[str, ...]


def classify(seen: Seen, *, has_mapping: bool, allow_documentation: bool = False) -> Report:
    """``has_mapping``: a router lets UDP in for this node, at a public address."""
    asked = {reply.family for reply in seen.replies if reply.error not in ("unresolved", "no_way")}
    ipv4, ipv6 = (_family(family, family.family in asked) for family in (seen.ipv4, seen.ipv6))
    has_ipv6 = ipv6.local is not None and is_public(ipv6.local[0], allow_documentation=allow_documentation)
    verdict, expectation = _expect(ipv4, ipv6, has_mapping, has_ipv6)
    return Report(ipv4, ipv6, verdict, expectation, tuple(_unknown(seen, ipv4)))


def mapping_of(local: Address, mappings: Iterable[tuple[Address, Address]]) -> Behavior:
    """How addresses outside are given to one socket (RFC 5780 section 4.3), from (asked at, seen as) pairs."""
    pairs = list(mappings)
    outside = [pair for pair in pairs if is_public(pair[0][0], allow_documentation=True)]
    pairs = outside or pairs  # who is asked in this very network sees no NAT
    if not pairs:
        return "unknown"
    if all(mapped == local for _, mapped in pairs):
        return "none"
    hosts = {server[0] for server, _ in pairs}
    if len({mapped for _, mapped in pairs}) == 1:
        return "endpoint_independent" if len(hosts) > 1 else "unknown"
    by_host = {host: [mapped for server, mapped in pairs if server[0] == host] for host in hosts}
    if any(len(set(seen)) > 1 for seen in by_host.values()):
        return "address_and_port_dependent"
    return "address_dependent" if any(len(seen) > 1 for seen in by_host.values()) else "dependent"


def _filtering_of(seen: FamilySeen, mapping: Behavior) -> Behavior:
    if seen.filtering is None:
        return "unknown"
    if seen.filtering.from_other_address:
        return "none" if mapping == "none" else "endpoint_independent"
    return "address_dependent" if seen.filtering.from_other_port else "address_and_port_dependent"


def _family(seen: FamilySeen, was_asked: bool) -> FamilyReport:
    mapping: Behavior = mapping_of(seen.local, seen.mappings) if seen.local else "unknown"
    udp: Udp = "open" if seen.mappings else "silent" if was_asked else "unknown"
    if seen.local is None:
        udp = "no_address"
    external = seen.mappings[0][1] if seen.mappings else None
    return FamilyReport(
        seen.family, udp, seen.local, external, mapping, _filtering_of(seen, mapping), seen.is_hairpinned
    )


def _expect(ipv4: FamilyReport, ipv6: FamilyReport, has_mapping: bool, has_ipv6: bool) -> tuple[Verdict, str]:
    """Between two nodes, each in a network like this one. The first line that fits."""
    if has_mapping:
        return "direct", "Two such nodes connect directly: their routers let them in, and no server is needed for it."
    if has_ipv6 and ipv6.udp == "open":
        return "direct", "Two such nodes connect directly, over IPv6."
    if "silent" in (ipv4.udp, ipv6.udp) and "open" not in (ipv4.udp, ipv6.udp):
        return "through_others", (
            "No server answered, so UDP seems to be blocked here, or all these servers are away: if it is blocked, two "
            "such nodes reach each other only through other members, and only nodes in one network connect directly."
        )
    if ipv4.mapping == "none":
        return "direct", "Two such nodes connect directly: there is no NAT."
    if ipv4.mapping == "endpoint_independent":
        return "direct", (
            "Two such nodes connect directly, if somebody tells them their addresses outside (STUN): another member "
            "with a public address does."
        )
    if ipv4.mapping == "unknown":
        if has_ipv6:
            return "probably_direct", "Two such nodes probably connect directly, over IPv6."
        if ipv4.udp != "open":
            return ("unknown", "What to expect cannot be said: nobody outside this network has answered.")
        return "probably_direct", (
            "Two such nodes probably connect directly; one server alone cannot tell whether the router gives each peer "
            "another port, and then they would not."
        )
    if ipv4.filtering in ("none", "endpoint_independent"):
        return "direct", "Two such nodes connect directly: the router gives each peer another port, but lets all in."
    return "through_others", (
        "Two such nodes do not connect directly over IPv4: the router shows each peer another port, which nobody can "
        "tell in advance. They reach each other through other members, or with IPv6, port mapping or TURN."
    )


def _unknown(seen: Seen, ipv4: FamilyReport) -> Iterable[str]:
    answered = {reply.address[0] for reply in seen.replies if reply.mapped and reply.address and reply.family == "ipv4"}
    can_vary = any(reply.other and reply.family == "ipv4" for reply in seen.replies)
    if not seen.replies:
        yield "No STUN server is known, so nothing was asked outside this network. Name one: meshctl netcheck --server"
        return
    if len(answered) == 1 and not can_vary and ipv4.mapping == "unknown":
        yield "One server answered: whether the router gives each peer another port (mapping) takes a second one."
    if answered and not can_vary and ipv4.mapping != "unknown":
        yield "No server here can answer from a second address (RFC 5780), so filtering cannot be known."
    elif answered and not can_vary:
        yield "It cannot answer from a second address (RFC 5780) either, so filtering cannot be known."
    if ipv4.mapping == "dependent":
        yield "Whether the port also depends on the peer's port takes a server with two addresses (RFC 5780)."
