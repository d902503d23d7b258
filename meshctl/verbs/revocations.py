"""What has been revoked in this mesh, oldest first."""

from __future__ import annotations

import argparse

from meshctl import render
from meshctl.client import Client

METHODS = ("revocations.list",)
EXAMPLE = """\
meshctl revocations"""

_WHAT = {"member": "membership", "admin": "admin's rights"}


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    result = client.call("revocations.list", {})
    if args.json:
        render.document(result)
    elif result["revocations"]:
        rows = [
            [
                entry["name"] or entry["peer_id"][:10],
                _WHAT.get(entry["scope"], entry["scope"]),
                entry["by"] or "the mesh key",
                render.local_time(entry["revoked_at"]),
                "nothing" if entry["void_from"] is None else str(entry["kept"]),
                render.ahead(entry["until"]),
            ]
            for entry in result["revocations"]
        ]
        render.table(("NAME", "REVOKED", "BY", "AT", "ADMISSIONS KEPT", "FORGOTTEN IN"), rows)
    elif client.call("node.status", {})["state"] == "no_mesh":
        render.note("This node belongs to no mesh yet.")
    else:
        render.note("Nothing has been revoked in this mesh.")
    return 0
