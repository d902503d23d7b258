"""Messages of this node that nobody has acknowledged yet, oldest first.

STATE is deposited for one that others keep for a member that is away; they hand it over when it appears.
"""

from __future__ import annotations

import argparse
import time

from meshctl import durations, quantities, render
from meshctl.client import Client

METHODS = ("messages.outbox",)
EXAMPLE = """\
meshctl outbox
meshctl outbox --json | jq '.messages[] | select(.state == "queued")'"""

_HEAD = ("TO", "STATE", "SENT", "SIZE", "GIVEN UP IN", "KEPT BY")


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    from meshd.control.encodings import decode_time

    result = client.call("messages.outbox", {})
    if args.json:
        render.document(result)
    elif not result["messages"]:
        render.note("All messages of this node have been acknowledged.")
    else:
        now = time.time()
        rows = [
            (
                entry["name"],
                entry["state"],
                durations.tight(max(0.0, now - decode_time(entry["sent_at"]))),
                quantities.size(entry["size"]),
                durations.tight(max(0.0, decode_time(entry["expires_at"]) - now)),
                ", ".join(entry["kept_by"]),
            )
            for entry in result["messages"]
        ]
        render.table(_HEAD, rows, {"queued": "yellow"})
    return 0
