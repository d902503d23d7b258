"""The other members of the mesh, and how they are reached. A star marks the admins."""

from __future__ import annotations

import argparse
import re
from typing import Any

from meshctl import durations, render
from meshctl.client import Client

METHODS = ("peers.list",)
EXAMPLE = """\
meshctl peers
meshctl peers --json | jq '.peers[] | select(.reachable | not) | .name'"""

_HEAD = ("NAME", "ID", "LINK", "PATH", "RTT", "SEEN", "PUSH")
_COLOURS = {"up": "green", "unreachable": "red", "connecting": "yellow", "expired": "red"}
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")


def configure(parser: argparse.ArgumentParser) -> None:
    """One option, for completion and scripts."""
    parser.add_argument("--names", action="store_true", help="only names (or ids), one a line, as completion uses them")


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    result = client.call("peers.list", {})
    peers = result["peers"]
    if args.json:
        render.document(result)
    elif args.names:
        for peer in peers:  # shells expand what completion gives them: nothing but plain names may pass
            print(peer["name"] if _PLAIN_NAME.match(peer["name"]) else peer["short_id"])
    elif peers:
        render.table(_HEAD, [_row(peer) for peer in peers], _COLOURS)
    else:
        render.note("There are no other members yet. Invite one: meshctl introduce")
    return 0


def _row(peer: dict[str, Any]) -> list[str]:
    path = peer["path"]
    route = f"{path['kind'] or ''} {path['remote']}" if path else ""
    if peer["link"] == "up":
        link = "up"
    elif peer["link"] == "connecting" and not peer["via"]:
        link = "connecting"
    else:
        link = "relayed" if peer["reachable"] else "unreachable"
        route = f"via {', '.join(peer['via'])}" if peer["via"] else peer["last_error"] or ""
    return [
        peer["name"] + (" *" if peer["admin"] else ""),
        peer["short_id"],
        link,
        route,
        "" if peer["rtt"] is None else durations.show(peer["rtt"]),
        render.ago(peer["seen"]),
        render.ahead(peer["push_until"]),
    ]
