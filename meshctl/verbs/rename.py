"""Give this node a new name in the mesh; admins can rename others too."""

from __future__ import annotations

import argparse

from meshctl import render
from meshctl.client import Client

METHODS = ("node.rename",)
EXAMPLE = """\
meshctl rename desk
meshctl rename kitchen --peer tablet"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The name, and whose."""
    parser.add_argument("name", metavar="NAME", help="the new name: 1 to 32 of a-z, 0-9, '.', '-', '_'")
    parser.add_argument("--peer", metavar="PEER", help="whom to rename, if not this node")


def run(args: argparse.Namespace, client: Client) -> int:
    """Rename."""
    result = client.call("node.rename", {"name": args.name, "peer": args.peer})
    if args.json:
        render.document(result)
    else:
        whose = "This node" if args.peer is None else args.peer
        print(f"{render.clean(whose)} is now {render.clean(result['name'])}.")
    return 0
