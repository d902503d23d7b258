"""Take one byte stream that a member opens with meshctl connect.

What comes goes to standard output, standard input goes there, until both ways have ended. If standard input is a
terminal and standard output is not, nothing is sent.
"""

from __future__ import annotations

import argparse

from meshctl import arguments, streaming
from meshctl.client import Client

METHODS = ("streams.accept", "streams.wait")
EXAMPLE = """\
meshctl accept backup | tar x
meshctl accept --from laptop photos < photos.tar"""
JSON = "the result of streams.wait, one document, on standard error at the end"


def configure(parser: argparse.ArgumentParser) -> None:
    """For what, from whom, how long."""
    parser.add_argument("application", metavar="APPLICATION", help="what the stream is for, as the other side says it")
    parser.add_argument("--from", dest="peer", metavar="PEER", help="from this member alone (default: from any)")
    parser.add_argument(
        "--timeout", type=arguments.duration, metavar="DURATION", help="how long to wait for one (default: for ever)"
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Until both ways are over."""
    params = {"application": args.application, "peer": args.peer, "timeout": args.timeout}
    return streaming.run(args, client, "streams.accept", params, args.timeout)
