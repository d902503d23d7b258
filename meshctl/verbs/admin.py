"""List the admins of the mesh, appoint one, or remove one.

Admins renew, rename and revoke members. Only the mesh key appoints and removes them: the file that `meshctl found` has
written. The daemon uses it once and forgets it. A removed admin stays a member; a stolen one is for `meshctl revoke`.
"""

from __future__ import annotations

import argparse

from meshctl import arguments, mesh_key, render
from meshctl.client import Client

METHODS = ("admins.list", "admins.appoint", "admins.remove")
EXAMPLE = """\
meshctl admin list
meshctl admin appoint desk --mesh-key /media/stick/home.meshkey
meshctl admin remove laptop --mesh-key /media/stick/home.meshkey"""

ANSWER_DURATION = 15.0  # seconds a member may take to say that it is an admin


def configure(parser: argparse.ArgumentParser) -> None:
    """What to do, and with whom."""
    parser.add_argument(
        "action", metavar="list|appoint|remove", nargs="?", choices=["list", "appoint", "remove"], default="list"
    )
    parser.add_argument("peer", metavar="PEER", nargs="?", help="the member, this node included")
    mesh_key.configure(parser, "the file with the mesh key")


def run(args: argparse.Namespace, client: Client) -> int:
    """List unless told otherwise."""
    if args.action == "list":
        if args.peer is not None or args.mesh_key is not None:
            raise arguments.UsageError("`admin list` takes neither a member nor a key")
        return _list(args, client)
    if args.peer is None or args.mesh_key is None:
        raise arguments.UsageError(f"`admin {args.action}` takes a member and --mesh-key FILE")
    params = {"peer": args.peer, "mesh_key": mesh_key.read(args.mesh_key)}
    result = client.call(f"admins.{args.action}", params, ANSWER_DURATION)
    if args.json:
        render.document(result)
        return 0
    name = render.clean(result["name"])
    if args.action == "appoint":
        print(f"{name} is an admin.")
        return 0
    print(f"{name} is no admin any more.")
    if not result["admins_left"]:
        render.note("The mesh has no admin now: nobody is renewed. Appoint one: meshctl admin appoint PEER")
    return 0


def _list(args: argparse.Namespace, client: Client) -> int:
    result = client.call("admins.list", {})
    if args.json:
        render.document(result)
    elif result["admins"]:
        rows = [
            [
                entry["name"] + (" (this node)" if entry["this_node"] else ""),
                entry["short_id"],
                render.local_time(entry["appointed_at"], "%Y-%m-%d"),
                render.ahead(entry["expires_at"]),
            ]
            for entry in result["admins"]
        ]
        render.table(("NAME", "ID", "APPOINTED", "EXPIRES IN"), rows)
    elif client.call("node.status", {})["mesh"] is None:
        render.note("This node belongs to no mesh yet.")
    else:
        render.note("The mesh has no admin that this node knows. With the mesh key: meshctl admin appoint PEER")
    return 0
