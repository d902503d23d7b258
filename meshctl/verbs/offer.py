"""Offer a link by copy and paste: no push, and no network but the link's own.

The text alone goes to standard output. It is for one machine: `meshctl answer` there prints another, which
`meshctl accept` takes here, within ten minutes; behind a NAT router better within one. Between members: --peer. To join
a mesh with a token of `meshctl introduce`: --for.
"""

from __future__ import annotations

import argparse
import sys

from meshctl import arguments, hostname, pasting
from meshctl.client import Client

METHODS = ("links.offer",)
EXAMPLE = """\
meshctl offer --peer laptop
meshctl offer --peer laptop | ssh laptop meshctl answer - | meshctl accept -
meshctl offer --for meshd1_… --name laptop"""


def configure(parser: argparse.ArgumentParser) -> None:
    """For whom."""
    parser.add_argument("--peer", metavar="PEER", help="the member that will answer: its name or id")
    parser.add_argument(
        "--for", dest="token", metavar="TOKEN", help="on a machine without a mesh: the token; - for standard input"
    )
    parser.add_argument("--name", help="with --for: this node's name in the mesh (default: made from the host name)")
    pasting.configure_output(parser)


def run(args: argparse.Namespace, client: Client) -> int:
    """Print the offer."""
    pasting.check_output(args)
    if (args.peer is None) == (args.token is None):
        raise arguments.UsageError("Say whom it is for: --peer PEER, or --for TOKEN where there is no mesh yet.")
    if args.token is None:
        result = client.call("links.offer", {"peer": args.peer})
        return pasting.show(result, "offer", args, "There: meshctl answer TEXT; what it prints, here: meshctl accept.")
    token = sys.stdin.read(pasting.MAX_TEXT_SIZE) if args.token == "-" else args.token
    result = client.call("links.offer", {"token": token, "name": args.name or hostname.as_name()})
    return pasting.show(result, "offer", args, "There: meshctl answer TEXT; what it prints, here: meshctl accept.")
