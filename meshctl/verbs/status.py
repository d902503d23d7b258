"""How this node is: its mesh, its links, its push services, and what needs looking after."""

from __future__ import annotations

import argparse
from typing import Any

from meshctl import durations, render
from meshctl.client import Client

METHODS = ("node.status",)
EXAMPLE = """\
meshctl status
meshctl status --json | jq .links"""


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    status = client.call("node.status", {})
    if args.json:
        render.document(status)
        return 0
    mesh = status["mesh"]
    if mesh:
        node = f"{status['name']}, {'an admin' if mesh['admin'] else 'a member'} of {mesh['name']}"
    elif status["state"] == "joining":
        node = "joining a mesh"
    elif status["state"] == "revoked":
        node = "revoked: no member of the mesh any more"
    else:
        node = "in no mesh yet: meshctl join TOKEN, or meshctl found MESHNAME"
    pairs = [
        ("node", node),
        ("id", status["peer_id"]),
        ("links", f"{status['links']} up, of {max(0, status['members'] - 1)} other members"),
        ("messages", _messages(status)),
    ]
    for push in status["push"]:
        detail = f": {push['detail']}" if push["detail"] else ""
        if push["test"] is not None:
            trip = "" if push["round_trip"] is None else f" in {durations.show(push['round_trip'])}"
            detail += f"; tested {render.ago(push['tested_at'])} ago: {push['test']}{trip}"
        limits = f" ({', '.join(push['limits'])})" if push["limits"] else ""
        pairs.append(("push", f"{push['service']} {push['state']}{detail}{limits}"))
    pairs.append(("daemon", f"meshd {status['version']}, up {durations.show(status['uptime'])}"))
    render.facts(pairs)
    for warning in status["warnings"]:
        print(f"{render.painted('warning', 'yellow')}   {render.clean(warning)}")
    return 0


def _messages(status: dict[str, Any]) -> str:
    said = f"{status['inbox']['unread']} unread, {status['outbox']['queued']} on their way"
    return f"{said}, {status['kept']['messages']} kept for others" if status["kept"]["messages"] else said
