"""Show unread messages, oldest first, and mark them read once they have been written out."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from meshctl import render
from meshctl.client import Client

METHODS = ("messages.list", "messages.read")
EXAMPLE = """\
meshctl inbox
meshctl inbox --keep"""

MAX_AT_ONCE = 1_000  # messages; methods.MAX_MESSAGES_LISTED, without loading the table for it


def configure(parser: argparse.ArgumentParser) -> None:
    """Whether to leave them."""
    parser.add_argument("--keep", action="store_true", help="leave them unread")


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, print, and mark."""
    while True:
        result = client.call("messages.list", {"limit": MAX_AT_ONCE})
        left = _show(args, client, result)
        if args.json or args.keep or not left or not result["messages"]:
            break
    if not args.json and left > 0:
        render.note(f"{left} more are waiting.")
    return 0


def _show(args: argparse.Namespace, client: Client, result: dict[str, Any]) -> int:
    """Print one batch and mark it; gives how many are left."""
    if args.json:
        render.document(result)
    else:
        for message in result["messages"]:
            render.message(message)
    sys.stdout.flush()  # raises if nobody reads it: then they stay unread
    if not args.keep and result["messages"]:
        client.call("messages.read", {"message_ids": [message["message_id"] for message in result["messages"]]})
    if not args.json and not result["unread"]:
        render.note("There are no unread messages.")
    return int(result["unread"]) - len(result["messages"])
