"""Show this node's keys, their public parts and ages, or make new ones.

New keys are made on schedule, too. The node's id is a key that stays; to be rid of that one, see
'A laptop was stolen' in docs/operations.md.
"""

from __future__ import annotations

import argparse
from typing import Any

from meshctl import arguments, render
from meshctl.client import Client

METHODS = ("keys.show", "keys.rotate")
EXAMPLE = """\
meshctl keys
meshctl keys rotate
meshctl keys rotate --no-push"""


def configure(parser: argparse.ArgumentParser) -> None:
    """What to do."""
    parser.add_argument("action", metavar="show|rotate", nargs="?", choices=["show", "rotate"], default="show")
    parser.add_argument("--no-push", action="store_true", help="rotate: leave the push subscriptions as they are")


def run(args: argparse.Namespace, client: Client) -> int:
    """Show unless told otherwise."""
    if args.no_push and args.action != "rotate":
        raise arguments.UsageError("--no-push goes with `keys rotate`")
    if args.action == "show":
        result = client.call("keys.show", {})
    else:
        result = client.call("keys.rotate", {"push": not args.no_push})
    if args.json:
        render.document(result)
        return 0
    pairs = [("node id", result["peer_id"])] if args.action == "show" else []
    pairs.append(("sealing key", _aged(result["sealing_key"]["key"], result["sealing_key"]["made_at"])))
    pairs += [
        (
            "former",
            f"{key['key']}, replaced {render.ago(key['retired_at'])} ago, erased in {render.ahead(key['erased_at'])}",
        )
        for key in result["former_sealing_keys"]
    ]
    pairs.append(("certificate", _certificate(result["certificate"])))
    if args.action == "rotate":
        pairs.append(("push", f"new subscriptions for {result['push_holders']} holders"))
    render.facts(pairs)
    return 0


def _aged(key: str, made_at: str | None) -> str:
    return key if made_at is None else f"{key}, {render.ago(made_at)} old"


def _certificate(certificate: dict[str, Any] | None) -> str:
    return "none yet" if certificate is None else _aged(certificate["fingerprint"], certificate["made_at"])
