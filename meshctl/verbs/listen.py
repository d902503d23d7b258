"""Show messages as they come, the unread ones first. Each is marked read once it has been written out."""

from __future__ import annotations

import argparse
import sys

from meshctl import arguments, render
from meshctl.client import Client

METHODS = ("messages.subscribe",)
EXAMPLE = """\
meshctl listen
meshctl listen --count 1 --json"""
JSON = "one message a line, as it stands in the result of messages.list"


def configure(parser: argparse.ArgumentParser) -> None:
    """When to stop."""
    parser.add_argument("--count", type=arguments.count, metavar="N", help="stop after N messages")


def run(args: argparse.Namespace, client: Client) -> int:
    """Until interrupted, or enough came."""
    client.call("messages.subscribe", {})
    left = args.count
    while left is None or left > 0:
        message = client.notice().params["message"]
        if args.json:
            render.document(message)
        else:
            render.message(message)
        sys.stdout.flush()  # raises if nobody reads it: then it stays unread
        client.call("messages.read", {"message_ids": [message["message_id"]]})
        left = left and left - 1
    return 0
