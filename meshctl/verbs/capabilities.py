"""Who can push to this node and until when, and whom this node can push to; or what became of its capabilities.

CONFIRMED is what the holder has said it keeps. A newcomer's subscriptions are apart from those of established members,
for a day. To take back what a member holds: meshctl revoke; what a token holds: meshctl introduce revoke.
"""

from __future__ import annotations

import argparse
from typing import Any

from meshctl import arguments, render
from meshctl.client import Client

METHODS = ("capabilities.list", "capabilities.audit")
KINDS = ("issued", "renewed", "used", "lent", "taken_back", "refused", "changed")
EXAMPLE = """\
meshctl capabilities
meshctl capabilities --audit laptop --since 7d
meshctl capabilities --audit --kind used"""


def configure(parser: argparse.ArgumentParser) -> None:
    """What to show."""
    parser.add_argument("--audit", action="store_true", help="the audit trail instead, newest first")
    parser.add_argument("peer", metavar="PEER", nargs="?", help="with --audit: of this member alone")
    parser.add_argument("--kind", choices=KINDS, help="with --audit: only this")
    parser.add_argument("--since", type=arguments.duration, metavar="DURATION", help="with --audit: not older")
    parser.add_argument("--limit", type=arguments.count, metavar="N", help="with --audit: at most so many")


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    if args.audit:
        return _audit(args, client)
    if args.peer or args.kind or args.since or args.limit:
        raise arguments.UsageError("PEER, --kind, --since and --limit go with --audit: meshctl capabilities --audit")
    result = client.call("capabilities.list", {})
    if args.json:
        render.document(result)
        return 0
    if result["given"]:
        print(render.painted("can push to this node", "bold"))
        head = ("WHO", "KIND", "FOR", "CONFIRMED", "SERVICES")
        render.table(head, [_given(entry) for entry in result["given"]], {"expired": "red"})
    if result["held"]:
        print(render.painted("this node can push to", "bold"))
        render.table(("WHO", "FOR", "SERVICES"), [_held(entry) for entry in result["held"]], {"expired": "red"})
    if not result["given"] and not result["held"]:
        render.note("Nobody can push to this node, and it can push to nobody. See: meshctl status")
    return 0


def _named(entry: dict[str, Any], key: str) -> str:
    return str(entry["name"] or entry[key][:10])


def _left(moment: str | None) -> str:
    return "" if moment is None else render.ahead(moment)


def _short(services: list[str]) -> str:
    return ", ".join(service.removeprefix("https://") for service in services)


def _held(entry: dict[str, Any]) -> list[str]:
    return [_named(entry, "peer_id"), _left(entry["until"]), _short(entry["services"])]


def _given(entry: dict[str, Any]) -> list[str]:
    kind = f"{entry['kind']}, newcomer" if entry["newcomer"] and entry["kind"] == "member" else entry["kind"]
    confirmed = "yes" if entry["taken_until"] is not None and entry["taken_until"] == entry["given_until"] else ""
    confirmed = confirmed or _left(entry["taken_until"])
    return [_named(entry, "holder_id"), kind, _left(entry["given_until"]), confirmed, _short(entry["services"])]


def _audit(args: argparse.Namespace, client: Client) -> int:
    params = {"peer": args.peer, "kind": args.kind, "since": args.since, "limit": args.limit}
    result = client.call("capabilities.audit", params)
    if args.json:
        render.document(result)
    elif result["entries"]:
        rows = [
            [
                render.local_time(entry["time"]),
                entry["kind"].replace("_", " "),
                "everybody" if entry["holder_id"] is None else _named(entry, "holder_id"),
                "" if entry["until"] is None else render.local_time(entry["until"], "%Y-%m-%d %H:%M"),
                entry["service"],
                entry["detail"],
            ]
            for entry in result["entries"]
        ]
        render.table(("TIME", "WHAT", "WHO", "SERVES UNTIL", "SERVICE", "WHY"), rows, {"taken back": "yellow"})
    else:
        render.note("Nothing of that is in the audit trail.")
    return 0
