"""What runs here: the versions of meshctl and of the daemon."""

from __future__ import annotations

import argparse

from meshctl import render
from meshctl.client import Client
from meshd import VERSION

METHODS = ("node.version",)
EXAMPLE = """\
meshctl version"""


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, client: Client) -> int:
    """Our own even if there is no daemon."""
    if not args.json:
        print(f"meshctl {VERSION}", flush=True)
    result = client.call("node.version", {})
    if args.json:
        render.document(result)
    else:
        print(f"meshd   {render.clean(result['version'])}, protocol {result['protocol']}, node {result['peer_id']}")
    return 0
