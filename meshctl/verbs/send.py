"""Send a message to one member: the words after its name, or standard input.

Waits until the member has it; or, if it is away, until others keep it for it, sealed, for up to a week. The exit status
is 0 when what was waited for has come.
"""

from __future__ import annotations

import argparse
import sys

from meshctl import arguments, durations, render
from meshctl.client import Client, RefusedError

METHODS = ("messages.send",)
EXAMPLE = """\
meshctl send laptop the backup is done
df -h | meshctl send laptop"""


def configure(parser: argparse.ArgumentParser) -> None:
    """To whom, what, and how long to wait."""
    parser.add_argument("peer", metavar="PEER", help="a member's name, id, or a unique beginning of its id")
    parser.add_argument(
        "text", metavar="TEXT", nargs="*", default=[], help="the message; none or - for standard input, as it is"
    )
    parser.add_argument("--application", metavar="NAME", help="what the message is for (default: message)")
    parser.add_argument(
        "--wait",
        choices=("queued", "deposited", "acknowledged"),
        default="deposited",
        help="until it is stored here, or at a keeper or the member itself, or at the member (default: deposited)",
    )
    parser.add_argument(
        "--no-wait", action="store_const", const="queued", dest="wait", help="the same as --wait queued"
    )
    parser.add_argument(
        "--timeout", type=arguments.duration, metavar="DURATION", help="how long to wait for it (default: 10s)"
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Send, and say how far it got."""
    from meshd.control.encodings import encode_bytes
    from meshd.control.methods import DEFAULT_SEND_TIMEOUT

    body = _body(args.text)
    params = {
        "peer": args.peer,
        "body": encode_bytes(body),
        "application": args.application,
        "until": args.wait,
        "timeout": args.timeout,
    }
    result = client.call("messages.send", params, args.timeout or DEFAULT_SEND_TIMEOUT)
    if args.json:
        render.document(result)
    elif result["state"] == "acknowledged":
        print(f"{render.clean(result['name'])} has it ({durations.show(result['elapsed'])}).")
    elif result["state"] == "deposited":
        keepers = [render.clean(name) for name in result["kept_by"]]
        verb = "keeps" if len(keepers) == 1 else "keep"
        print(f"{render.clean(result['name'])} is away: {' and '.join(keepers)} {verb} it.")
    else:
        print(f"Queued for {render.clean(result['name'])}.")
    return 0


def _body(words: list[str]) -> bytes:
    from meshd.control.methods import MAX_BODY_SIZE

    if words and words != ["-"]:
        body = " ".join(words).encode(errors="surrogateescape")  # as the shell gave it
    elif not words and sys.stdin.isatty():
        raise arguments.UsageError(
            "There is no message: write it after the name, or pipe it in. See: meshctl send --help"
        )
    else:
        body = sys.stdin.buffer.read(MAX_BODY_SIZE + 1)
    if len(body) > MAX_BODY_SIZE:
        text = f"A message may have {MAX_BODY_SIZE:,} bytes, and that is more."
        raise RefusedError(-32008, text, {"symbol": "too_large", "exit_status": 1})
    return body
