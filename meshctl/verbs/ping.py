"""Measure the way to a member and back."""

from __future__ import annotations

import argparse

from meshctl import arguments, durations, render
from meshctl.client import Client

METHODS = ("peers.ping",)
EXAMPLE = """\
meshctl ping laptop"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Whom, and how long."""
    parser.add_argument("peer", metavar="PEER", help="a member's name, id, or a unique beginning of its id")
    parser.add_argument("--timeout", type=arguments.duration, metavar="DURATION", help="how long to wait (default: 5s)")


def run(args: argparse.Namespace, client: Client) -> int:
    """Once."""
    result = client.call("peers.ping", {"peer": args.peer, "timeout": args.timeout}, args.timeout or 0.0)
    if args.json:
        render.document(result)
        return 0
    via = f" via {', '.join(map(render.clean, result['via']))}" if result["via"] else ""
    print(f"{render.clean(result['name'])}: {durations.show(result['rtt'])}{via}")
    return 0
