"""Find out what this machine's network lets through, and what to expect of links from here.

Asks the router for port mapping, and STUN servers: those of the mesh, those of the configuration if links may use
them, and those named here. Works without a mesh, too.
"""

from __future__ import annotations

import argparse
from typing import Any

from meshctl import arguments, durations, render
from meshctl.client import Client

METHODS = ("net.check",)
EXAMPLE = """\
meshctl netcheck
meshctl netcheck --server stun.example.org:3478 --server 192.0.2.7:3478
meshctl netcheck --json | jq -r .verdict"""

ROUNDS = 7  # of asking, each as long as the timeout
PATIENCE = 5.0  # seconds that routers may take besides

_MAPPINGS = {
    "none": "no NAT: the address is this machine's own",
    "endpoint_independent": "endpoint-independent: one port outside for all peers",
    "address_dependent": "address-dependent: another port outside for each peer's address",
    "address_and_port_dependent": "address-and-port-dependent: another port outside for each peer",
    "dependent": "address-dependent, perhaps and port-dependent: another port outside for each peer",
    "unknown": "not known",
}
_FILTERINGS = {
    "none": "none: everything gets in",
    "endpoint_independent": "endpoint-independent: a port that is open lets everybody in",
    "address_dependent": "address-dependent: lets in any port of an address that was sent to",
    "address_and_port_dependent": "address-and-port-dependent: lets in only what was sent to",
    "unknown": "not known",
}
_UDP = {
    "open": "gets out",
    "silent": "nobody answered: blocked, or the servers are away",
    "unknown": "nobody was asked",
    "no_address": "there is no such network here",
}
_ERRORS = {
    "silent": "no answer",
    "refused": "refused",
    "unresolved": "no such name",
    "no_way": "no way there",
}
_SOURCES = {"asked": "you", "configured": "configuration", "mesh": "mesh"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Whom to ask, and how long."""
    parser.add_argument(
        "--server",
        action="append",
        metavar="HOST:PORT",
        help="a further STUN server to ask; may be repeated",
    )
    parser.add_argument(
        "--timeout", type=arguments.duration, metavar="DURATION", help="how long a server may take (default: 2s)"
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    duration = ROUNDS * (args.timeout or 0.0) + PATIENCE
    result = client.call("net.check", {"servers": args.server, "timeout": args.timeout}, duration)
    if args.json:
        render.document(result)
        return 0
    pairs = [*_network("IPv4", result["ipv4"]), *_network("IPv6", result["ipv6"])]
    pairs += [("router", router["says"]) for router in result["port_mapping"]]
    if not result["port_mapping"]:
        pairs.append(("router", "none was asked for port mapping"))
    render.facts(pairs)
    if result["servers"]:
        print()
        rows = [_server(entry) for entry in result["servers"]]
        colours = dict.fromkeys(_ERRORS.values(), "red")
        render.table(("SERVER", "NAMED BY", "OVER", "ANSWER", "SEES US AS"), rows, colours)
    print()
    print(render.painted(render.clean(result["expectation"]), "bold"))
    for sentence in result["unknown"]:
        print(render.clean(sentence))
    return 0


def _network(name: str, seen: dict[str, Any]) -> list[tuple[str, str]]:
    local = f"{seen['local']}, " if seen["local"] else ""
    pairs = [(name, f"{local}UDP: {_UDP.get(seen['udp'], seen['udp'])}")]
    if seen["udp"] == "open":
        if seen["mapping"] != "none":
            pairs.append(("  outside", seen["external"] or ""))
        pairs.append(("  mapping", _MAPPINGS.get(seen["mapping"], seen["mapping"])))
        pairs.append(("  filtering", _FILTERINGS.get(seen["filtering"], seen["filtering"])))
        if seen["hairpin"] is not None:
            works = "works: this machine reaches itself by its address outside" if seen["hairpin"] else "does not work"
            pairs.append(("  hairpin", works))
    return pairs


def _server(entry: dict[str, Any]) -> list[str]:
    answer = _ERRORS.get(entry["error"], entry["error"]) if entry["error"] else durations.show(entry["rtt"] or 0.0)
    family = "IPv6" if entry["family"] == "ipv6" else "IPv4"
    return [entry["server"], _SOURCES.get(entry["source"], ""), family, answer, entry["external"] or ""]
