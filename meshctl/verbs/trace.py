"""The way that messages to a member take, hop by hop, and how long it is to each and back.

Each hop is asked where it would hand a message for the member, so this is the way by the relays' own view of the mesh,
which may differ from what this node's records show. Times are to the hop and back, each by the shortest way; a hop can
answer sooner than the one before it.
"""

from __future__ import annotations

import argparse
from typing import Any

from meshctl import arguments, durations, render
from meshctl.client import Client

METHODS = ("peers.trace",)
EXAMPLE = """\
meshctl trace phone
meshctl trace phone --json | jq -r '.hops[].name'"""

MAX_HOPS = 8  # that a message may take
_PROBES, _TIMEOUT = 3, 2.0  # as the daemon has them where nothing is said
_OUTCOMES = {
    "silent": "{last} does not answer.",
    "no_route": "{last} knows no way to {name}.",
    "refused": "{last} does not relay.",
    "loop": "{last} would hand it to one that has had it before: their views of the mesh differ just now.",
    "too_far": "{name} is more than {hops} hops away, and no message goes that far.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Whom, and how often to ask."""
    parser.add_argument("peer", metavar="PEER", help="a member's name, id, or a unique beginning of its id")
    parser.add_argument(
        "-q", "--probes", type=arguments.count, metavar="COUNT", help=f"questions to each hop (default: {_PROBES})"
    )
    parser.add_argument(
        "--timeout", type=arguments.duration, metavar="DURATION", help="how long to wait for each answer (default: 2s)"
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print a line for each hop. Status 1 where it does not get there."""
    longest = MAX_HOPS * (args.probes or _PROBES) * (args.timeout or _TIMEOUT)
    result = client.call("peers.trace", {"peer": args.peer, "probes": args.probes, "timeout": args.timeout}, longest)
    if args.json:
        render.document(result)
    else:
        _show(result)
    return 0 if result["outcome"] == "arrived" else 1


def _show(result: dict[str, Any]) -> None:
    hops = result["hops"]
    rows = [[str(number), hop["name"] or hop["peer_id"][:10], *_times(hop)] for number, hop in enumerate(hops, 1)]
    render.table(("HOP", "NAME", "RTT", "ALL"), rows, {"silent": "red"}, notes=[_note(hop) for hop in hops])
    if result["outcome"] in _OUTCOMES:
        last = hops[-1]["name"] or hops[-1]["peer_id"][:10]
        render.note(_OUTCOMES[result["outcome"]].format(last=last, name=result["name"], hops=MAX_HOPS))
    taken = [hop["name"] for hop in hops if hop["peer_id"] != result["peer_id"]]
    expected = result["expected"] if result["outcome"] == "arrived" else result["expected"][: len(taken)]
    if taken != expected:
        render.note(f"By the records of this node it would go by {', '.join(result['expected']) or 'the direct link'}.")


def _times(hop: dict[str, Any]) -> tuple[str, str]:
    if hop["rtt"] is None:
        return "silent", "* " * hop["lost"]
    return durations.tight(hop["rtt"]), " ".join([*map(durations.tight, hop["rtts"]), *"*" * hop["lost"]])


def _note(hop: dict[str, Any]) -> str:
    return "its link to the next is full right now" if hop["busy"] else ""
