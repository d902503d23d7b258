"""Offers and answers that people carry: what was pasted, and what is printed to be pasted elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from meshctl import arguments, render

# Policy
MAX_TEXT_SIZE = 65_536  # characters; an answer with other members' in it has 3,000, an SDP with candidates 8,000
MARKS = ("meshd-offer1_", "meshd-answer1_", "meshd1_")
SDP_NOTE = (
    "An SDP does not say from whom it is, and is not signed: whoever gets at it on its way can put another in its "
    "place. That {name} is at the other end is proved on the link, or the link ends."
)


def configure_input(parser: argparse.ArgumentParser, what: str) -> None:
    """What was pasted, and whose an SDP is."""
    parser.add_argument("text", metavar="TEXT", nargs="*", default=[], help=f"the {what}; none or - for standard input")
    parser.add_argument(
        "--from", "--peer", dest="peer", metavar="PEER", help="of an SDP, which does not say it: the member it is from"
    )


def configure_output(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    parser.add_argument("--qr", action="store_true", help="show it as a QR code, too, for a camera to read")
    parser.add_argument("--sdp", action="store_true", help='print {"type":…,"sdp":…} as browsers take it, unsigned')


def check_output(args: argparse.Namespace) -> None:
    """Raises UsageError for what does not go together."""
    if args.json and (args.qr or args.sdp):
        raise arguments.UsageError("--json prints all there is, so not with --qr or --sdp")
    if args.qr and args.sdp:
        raise arguments.UsageError("--qr shows the short text, so not with --sdp")


def is_pasted(words: list[str]) -> bool:
    """Whether these are an offer or an answer, or stand for standard input, rather than a name."""
    text = "".join(words)
    return text == "-" or text.lstrip().startswith("{") or any(mark in text for mark in MARKS) or len(text) > 64


def read(words: list[str], kind: str, peer: str | None) -> dict[str, Any]:
    """The parameters for what was pasted: a text of ours, or the JSON of a browser. Raises UsageError."""
    if words and words != ["-"]:
        text = " ".join(words)
    elif sys.stdin.isatty():
        render.note(f"Paste the {kind}, then an empty line:")
        text = "".join(iter(lambda: sys.stdin.readline().strip(), ""))
    else:
        text = sys.stdin.read(MAX_TEXT_SIZE + 1)
    if not text.strip():
        raise arguments.UsageError(f"There is no {kind}. The other machine makes one: meshctl {kind}")
    if len(text) > MAX_TEXT_SIZE:
        raise arguments.UsageError(f"That is far too long for an {kind}.")
    if not text.lstrip().startswith("{"):
        return {"text": text}
    return {"sdp": _sdp(text, kind), "peer": _named(peer)}


def _named(peer: str | None) -> str:
    if not peer:
        raise arguments.UsageError("An SDP does not say from whom it is: say it with --from PEER.")
    return peer


def _sdp(text: str, kind: str) -> str:
    try:
        found = json.loads(text, strict=False)  # a terminal may have wrapped the lines
    except (ValueError, RecursionError):
        raise arguments.UsageError("That begins like JSON, and is none: is it all there?") from None
    if not isinstance(found, dict) or not isinstance(found.get("sdp"), str):
        raise arguments.UsageError('JSON has to be {"type": "offer" or "answer", "sdp": …}, as browsers make it.')
    if found.get("type") != kind:
        verb = {"offer": "answer", "answer": "accept"}.get(str(found.get("type")))
        hint = f" To be pasted into: meshctl {verb}" if verb else ""
        raise arguments.UsageError(f"An {kind} is wanted, and that is {render.clean(str(found.get('type')))!r}.{hint}")
    return str(found["sdp"])


def show(result: dict[str, Any], kind: str, args: argparse.Namespace, then: str) -> int:
    """Print the text, alone on standard output; ``then`` says where it goes."""
    if args.json:
        render.document(result)
        return 0
    name = render.clean(result["name"]) or "the introducer"
    if args.sdp:
        if not result["sdp"]:
            raise arguments.UsageError("With a token there is no SDP: it could not carry what admits. Use the text.")
        render.note(f"Warning: {SDP_NOTE.format(name=name)}")
        print(json.dumps({"type": kind, "sdp": result["sdp"]}), flush=True)
        return 0
    text = render.clean(result["text"])
    render.note(f"For {name}. {then} This node waits until {render.local_time(result['expires_at'], '%H:%M:%S')}.")
    if args.qr:
        from meshctl.qr import QrError, print_qr

        try:
            print_qr(text, sys.stderr)
        except QrError as error:
            render.note(f"No QR code: {error}")
    print(text, flush=True)
    return 0
