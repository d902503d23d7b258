"""Leave the mesh: the others are told, links close, the admission is forgotten."""

from __future__ import annotations

import argparse
import sys

from meshctl import render
from meshctl.client import Client

METHODS = ("mesh.leave",)
EXAMPLE = """\
meshctl leave --yes"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Whether to ask."""
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask on a terminal, then leave."""
    if not args.yes and not args.json and sys.stdin.isatty():
        client.connect()
        print("Leave the mesh? Coming back takes a new introduction token. [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            render.note("Not left.")
            return 1
    result = client.call("mesh.leave", {})
    if args.json:
        render.document(result)
    else:
        print("Left the mesh.")
    return 0
