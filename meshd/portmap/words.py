"""How a router does, in a sentence for people. Nothing in it was chosen by a router but an address. Pure."""

from __future__ import annotations

from meshd.portmap.machine import RouterReport
from meshd.portmap.values import METHODS, TITLES

_REASONS = {
    "not_authorized": "it is forbidden there",
    "no_resources": "it has no room for more",
    "quota_exceeded": "it has no room for more from this machine",
    "port_taken": "the port is taken",
    "no_service": "it maps no ports",
    "malformed": "its answer makes no sense",
}

_HOMELESS = ("no_external_address", "network_failure", "cannot_provide_external")  # by any protocol: others say less


def describe(report: RouterReport) -> str:
    """One sentence, with what to do where that helps."""
    router = f"The router at {report.gateway.address}"
    if report.trouble is not None and report.external is not None and report.method is not None:
        address = report.external[0]
        if report.trouble == "double_nat":
            return (
                f"{router} speaks {TITLES[report.method]}, but its own address outside, {address}, is a private one: "
                "there is a second router between it and the internet (double NAT). Port mapping has to be on there, "
                "or that one set to pass everything on (bridge mode)."
            )
        if report.trouble == "carrier_nat":
            return (
                f"{router} speaks {TITLES[report.method]}, but its own address outside, {address}, belongs to the "
                "provider's NAT (CGNAT): nobody can reach it from outside. IPv6, or a public IPv4 address from the "
                "provider, would help."
            )
        return f"{router} says that its address outside is {address}, which is not a public one; it is not believed."
    if report.method is not None and report.external is not None:
        host, port = report.external
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{router} lets UDP in at {shown} ({TITLES[report.method]})."
    if not report.is_settled:
        return f"{router} is still being asked."
    refused = [method for method in METHODS if report.answers.get(method, "silent") not in ("silent", "yes")]
    if any(report.answers[method] in _HOMELESS for method in refused):
        return (
            f"{router} speaks {TITLES[refused[0]]}, but has no public address itself: it is disconnected, or there is "
            "a second router (double NAT) or the provider's NAT (CGNAT) between it and the internet."
        )
    if refused:
        why = report.answers[refused[0]]
        reason = _REASONS.get(why, why.replace("_", " "))
        return f"{router} speaks {TITLES[refused[0]]}, but does not let UDP in: {reason}."
    asked = "PCP" if report.gateway.is_ipv6 else "PCP, NAT-PMP or UPnP"
    return f"{router} does not answer {asked}. If it has a setting for that, turn it on."
