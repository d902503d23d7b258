"""Revoke a member for good: a stolen laptop, a machine that is not to be trusted any more.

All members drop it within seconds and refuse it from then on; those that are away do when they come back. What it
admitted stays, as far as this node knew it by --since (by now, if left out), and is renewed by an admin.

Needs an admin, or the mesh key. An admin is revoked only with the mesh key. The key of a revoked machine never joins
again: one that is found again gets a new identity.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from meshctl import arguments, mesh_key, render
from meshctl.client import Client

METHODS = ("members.revoke",)
EXAMPLE = """\
meshctl revoke laptop
meshctl revoke laptop --since 2d
meshctl revoke laptop --since '2025-03-01 09:00'
meshctl revoke desk --all --mesh-key /media/stick/home.meshkey"""

MAX_NAMED = 20  # of those that stay or fall


def configure(parser: argparse.ArgumentParser) -> None:
    """Whom, and what stays."""
    parser.add_argument("peer", metavar="PEER", help="a member, or the whole id of any key")
    parser.add_argument(
        "--since",
        type=arguments.moment,
        metavar="TIME",
        help="when it was lost: 2d (ago), or a date and time; whom it admitted later falls with it",
    )
    parser.add_argument("--all", action="store_true", help="all whom it ever admitted fall with it")
    mesh_key.configure(parser, "the file with the mesh key: to revoke an admin, or where this node is none")
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")


def run(args: argparse.Namespace, client: Client) -> int:
    """Say what falls, ask on a terminal, revoke."""
    if args.all and args.since:
        raise arguments.UsageError("--all keeps nobody, so --since says nothing")
    params: dict[str, Any] = {"peer": args.peer, "all": args.all}
    if args.since:
        params["since"] = args.since
    if args.mesh_key:
        params["mesh_key"] = mesh_key.read(args.mesh_key)
    if not args.json:
        _show(client.call("members.revoke", {**params, "preview": True}), args.peer)
    asks = not args.yes and not args.json and sys.stdin.isatty()
    if asks and not render.confirmed("Revoke it for good?"):
        render.note("Not revoked.")
        return 1
    result = client.call("members.revoke", params)
    if args.json:
        render.document(result)
    else:
        print(f"{render.clean(result['name'] or args.peer)} is revoked.")
    return 0


def _show(plan: dict[str, Any], peer: str) -> None:
    """What would happen, to standard error."""
    name = plan["name"] or peer
    if not plan["member"]:
        render.note(f"{name} is no member as far as this node knows; its key is revoked all the same.")
    else:
        kind = "an admin" if plan["admin"] else "a member"
        render.note(f"{name} ({plan['peer_id']}) is {kind}: its links end, nobody lets it in again.")
    for entries, what in ((plan["kept"], "stay, and an admin renews them"), (plan["fallen"], "fall with it")):
        if entries:
            render.note(f"Admitted through it, {len(entries)} {what}:")
            for entry in entries[:MAX_NAMED]:
                render.note(f"  {entry['name']}, known here since {render.local_time(entry['known_since'])}")
            if len(entries) > MAX_NAMED:
                render.note(f"  and {len(entries) - MAX_NAMED} more")
