"""Make an introduction token, list those that were made, or revoke one.

The token alone goes to standard output. Whoever has it can join the mesh: hand it over in private.
"""

from __future__ import annotations

import argparse

from meshctl import arguments, render
from meshctl.client import Client

METHODS = ("introductions.mint", "introductions.list", "introductions.revoke")
EXAMPLE = """\
meshctl introduce --lifetime 1h --label 'for the laptop'
meshctl introduce --qr
meshctl introduce --by-hand --lifetime 10m
meshctl introduce | ssh laptop meshctl join -
meshctl introduce list
meshctl introduce revoke abcdefghijklm"""


def configure(parser: argparse.ArgumentParser) -> None:
    """What to do, and what the token is good for."""
    parser.add_argument(
        "action", metavar="mint|list|revoke", nargs="?", choices=["mint", "list", "revoke"], default="mint"
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="the token's public name, to revoke it")
    parser.add_argument(
        "--lifetime", type=arguments.duration, metavar="DURATION", help="for how long it is good (default: 12h)"
    )
    parser.add_argument("--uses", type=arguments.count, metavar="N", help="how many can join with it (default: 1)")
    parser.add_argument("--label", metavar="TEXT", help="a note for the list")
    parser.add_argument("--by-hand", action="store_true", help="for meshctl offer alone: no push service")
    parser.add_argument("--qr", action="store_true", help="show the token as a QR code, too, for a camera to read")


def run(args: argparse.Namespace, client: Client) -> int:
    """Mint unless told otherwise."""
    if (args.action == "revoke") != (args.id is not None):
        raise arguments.UsageError("`introduce revoke` takes an id, the others none. See: meshctl introduce list")
    if args.qr and (args.json or args.action != "mint"):
        raise arguments.UsageError("--qr shows a new token to people, so not with --json, list or revoke")
    if args.action == "list":
        return _list(args, client)
    if args.action == "revoke":
        result = client.call("introductions.revoke", {"introduction_id": args.id})
        if args.json:
            render.document(result)
        else:
            print(f"{result['introduction_id']} is {result['state']}.")
        return 0
    return _mint(args, client)


def _mint(args: argparse.Namespace, client: Client) -> int:
    params = {"lifetime": args.lifetime, "uses": args.uses, "label": args.label, "by_hand": args.by_hand}
    result = client.call("introductions.mint", params)
    if args.json:
        render.document(result)
        return 0
    render.warnings(result["warnings"])
    joiners = "one node" if result["uses"] == 1 else f"{result['uses']} nodes"
    there = "offer --for TOKEN" if args.by_hand else "join TOKEN"
    until = f"{render.ahead(result['expires_at'])}, until {render.local_and_utc(result['expires_at'])}"
    render.note(f"For {joiners}, good for {until}. Hand it over in private; there: meshctl {there}")
    token = render.clean(result["token"])
    if args.qr:
        _show(token)
    print(token, flush=True)
    render.note(f"To take it back: meshctl introduce revoke {result['introduction_id']}")
    return 0


def _show(token: str) -> None:
    """As a QR code, to standard error: what goes on to another program is the token alone."""
    import sys

    from meshctl.qr import QrError, print_qr

    try:
        print_qr(token, sys.stderr)
    except QrError as error:
        render.note(f"No QR code: {error}")


def _list(args: argparse.Namespace, client: Client) -> int:
    result = client.call("introductions.list", {})
    if args.json:
        render.document(result)
    elif result["introductions"]:
        rows = [
            [
                entry["introduction_id"],
                entry["state"],
                str(entry["uses_left"]),
                render.ahead(entry["expires_at"]),
                ", ".join(entry["joined"]),
                entry["label"] or "",
            ]
            for entry in result["introductions"]
        ]
        colours = {"open": "green", "revoked": "red", "expired": "dim"}
        render.table(("ID", "STATE", "USES LEFT", "EXPIRES IN", "JOINED", "LABEL"), rows, colours)
    else:
        render.note("No token has been made here. Make one: meshctl introduce")
    return 0
