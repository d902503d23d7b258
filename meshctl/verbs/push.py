"""Whether this node can be reached by push, tried out; or its push subscriptions made anew.

`push test` sends a push to this node itself through every service and waits for it to come back. `push renew` makes new
subscriptions with new keys, for one member or for all, and tells them over the mesh; tokens stay as they are.
"""

from __future__ import annotations

import argparse
from typing import Any

from meshctl import arguments, durations, render
from meshctl.client import Client

METHODS = ("push.test", "push.renew")
EXAMPLE = """\
meshctl push test
meshctl push renew
meshctl push renew laptop"""

MAX_DURATION = 60.0  # seconds until the daemon gives up on a push to itself

_WORDS = {"ok": "ok", "dead": "subscription is dead", "lost": "not delivered", "refused": "refused", "down": "down"}


def configure(parser: argparse.ArgumentParser) -> None:
    """What to do."""
    parser.add_argument("action", metavar="test|renew", choices=["test", "renew"])
    parser.add_argument("peer", metavar="PEER", nargs="?", help="to renew the subscriptions of this member alone")


def run(args: argparse.Namespace, client: Client) -> int:
    """Test, or renew. Status 1 if no push came back."""
    if args.action == "renew":
        return _renew(args, client)
    if args.peer is not None:
        raise arguments.UsageError("`push test` takes no member: it is about this node's own services.")
    result = client.call("push.test", {}, MAX_DURATION)
    tests = result["tests"]
    if args.json:
        render.document(result)
    elif not tests:
        render.note("This node uses no push service. See push.services in the configuration.")
    else:
        head = ("SERVICE", "FOR", "RESULT", "ACCEPTED", "BACK", "WHY")
        render.table(head, [_row(test) for test in tests], {"ok": "green"} | dict.fromkeys(_WORDS.values(), "red"))
    return 0 if any(test["outcome"] == "ok" for test in tests) else 1


def _row(test: dict[str, Any]) -> list[str]:
    return [
        test["service"],
        "newcomers" if test["newcomers"] else "members",
        _WORDS.get(test["outcome"], test["outcome"]),
        "" if test["accepted"] is None else durations.tight(test["accepted"]),
        "" if test["delivered"] is None else durations.tight(test["delivered"]),
        test["detail"],
    ]


def _renew(args: argparse.Namespace, client: Client) -> int:
    result = client.call("push.renew", {"peer": args.peer})
    if args.json:
        render.document(result)
    else:
        whom = args.peer or ("one member" if result["holders"] == 1 else f"{result['holders']} members")
        print(f"New subscriptions for {render.clean(whom)}. Who has them already: meshctl capabilities")
    return 0
