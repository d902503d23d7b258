"""Open a byte stream to a member that waits for one with meshctl accept.

Standard input goes there, what comes goes to standard output, until both ways have ended. If standard input is a
terminal and standard output is not, nothing is sent. Without a direct link to the member the stream goes over others,
who cannot read it.
"""

from __future__ import annotations

import argparse

from meshctl import arguments, streaming
from meshctl.client import Client

METHODS = ("streams.open", "streams.wait")
EXAMPLE = """\
tar c . | meshctl connect nas backup
meshctl connect nas photos > photos.tar"""
JSON = "the result of streams.wait, one document, on standard error at the end"


def configure(parser: argparse.ArgumentParser) -> None:
    """To whom, and for what."""
    parser.add_argument("peer", metavar="PEER", help="a member's name, id, or a unique beginning of its id")
    parser.add_argument("application", metavar="APPLICATION", help="what the stream is for, as the other side says it")
    parser.add_argument(
        "--timeout", type=arguments.duration, metavar="DURATION", help="how long to wait for an answer (default: 10s)"
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Until both ways are over."""
    from meshd.control.methods import DEFAULT_STREAM_TIMEOUT

    params = {"peer": args.peer, "application": args.application, "timeout": args.timeout}
    return streaming.run(args, client, "streams.open", params, args.timeout or DEFAULT_STREAM_TIMEOUT)
