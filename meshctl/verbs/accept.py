"""Take the answer to an offer, or a byte stream.

After `meshctl offer` here and `meshctl answer` there: `meshctl accept TEXT` takes what was printed there, and says when
the link is up. From a script: `meshctl accept -`.

With a word of at most 32 letters: take one byte stream that a member opens for it with `meshctl connect`. What comes
goes to standard output, standard input goes there, until both ways have ended. If standard input is a terminal and
standard output is not, nothing is sent.
"""

from __future__ import annotations

import argparse

from meshctl import arguments, durations, pasting, render, streaming
from meshctl.client import Client

METHODS = ("links.accept", "streams.accept", "streams.wait")
EXAMPLE = """\
meshctl accept meshd-answer1_…
meshctl accept backup | tar x
meshctl accept --from laptop photos < photos.tar"""
JSON = "the result of links.accept; of a stream, that of streams.wait on standard error at the end"

DEFAULT_WAIT = 60.0  # seconds for a link to come up, or not


def configure(parser: argparse.ArgumentParser) -> None:
    """What, from whom, how long."""
    parser.add_argument(
        "what",
        metavar="TEXT|APPLICATION",
        nargs="+",
        help="the answer that was pasted (- for standard input); or what the stream is for, as the other side says it",
    )
    parser.add_argument(
        "--from", "--peer", dest="peer", metavar="PEER", help="from this member alone; of an SDP: whose it is"
    )
    parser.add_argument(
        "--timeout",
        type=arguments.duration,
        metavar="DURATION",
        help="how long to wait for a stream (default: ever)",
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Until the link is up, or both ways of the stream are over."""
    if pasting.is_pasted(args.what):
        return _link(args, client)
    if len(args.what) > 1:
        raise arguments.UsageError("One application, or one answer. See: meshctl accept --help")
    params = {"application": args.what[0], "peer": args.peer, "timeout": args.timeout}
    return streaming.run(args, client, "streams.accept", params, args.timeout)


def _link(args: argparse.Namespace, client: Client) -> int:
    result = client.call("links.accept", pasting.read(args.what, "answer", args.peer), DEFAULT_WAIT)
    if args.json:
        render.document(result)
        return 0
    name, elapsed = render.clean(result["name"]) or "a member", durations.show(result["elapsed"])
    if result["joined"]:
        print(f"Joined {render.clean(result['mesh_name'])}; linked to {name}, after {elapsed}.")
    else:
        print(f"Linked to {name}, after {elapsed}.")
    return 0
