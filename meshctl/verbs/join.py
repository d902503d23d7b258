"""Join a mesh with an introduction token, made by one of its members with `meshctl introduce`."""

from __future__ import annotations

import argparse
import sys
import time

from meshctl import arguments, durations, hostname, render
from meshctl.client import Client
from meshd.control.jsonrpc import Notification

METHODS = ("mesh.join",)
EXAMPLE = """\
meshctl join meshd1_… --name laptop
meshctl join - < token.txt"""

QUOTES = "\"'`<>\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e"  # what chat programs and people put around a token
MAX_TOKEN_SIZE = 65_536  # characters; a token has some hundreds


def configure(parser: argparse.ArgumentParser) -> None:
    """The token, and a name."""
    parser.add_argument("token", metavar="TOKEN", nargs="*", default=[], help="the token; none or - for standard input")
    parser.add_argument("--name", help="this node's name in the mesh (default: made from the host name)")
    parser.add_argument("--timeout", type=arguments.duration, metavar="DURATION", help="how long to try (default: 60s)")


def run(args: argparse.Namespace, client: Client) -> int:
    """Join, and tell what happens meanwhile."""
    from meshd.control.methods import DEFAULT_JOIN_TIMEOUT

    params = {"token": _token(args.token), "name": args.name or hostname.as_name(), "timeout": args.timeout}
    progress = None
    if not args.json:
        client.call("events.subscribe", {}, on_notice=_ignore)
        progress = _Progress().show
        render.note(f"Joining as {params['name']} …")
    result = client.call("mesh.join", params, args.timeout or DEFAULT_JOIN_TIMEOUT, progress)
    if args.json:
        render.document(result)
        return 0
    pushes = f"{result['pushes_sent']} push sent, {result['pushes_received']} received"
    introducer = render.clean(result["introducer"]["name"])
    print(f"Joined {render.clean(result['mesh_name'])} as {render.clean(result['name'])}, introduced by {introducer}.")
    print(f"It took {durations.show(result['elapsed'])}; {pushes}.")
    render.warnings(result["warnings"])
    return 0


class _Progress:
    """One line for each event between the call and its answer."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def show(self, notice: Notification) -> None:
        """Tell one event."""
        if notice.method == "event":
            elapsed = durations.show(time.monotonic() - self._began)
            name = str(notice.params.get("name", "")).replace("_", " ")
            render.note(f"{elapsed}: {name}")


def _ignore(notice: Notification) -> None:
    """How things were before the call."""


def _token(words: list[str]) -> str:
    if words and words != ["-"]:
        text = "".join(words)
    elif sys.stdin.isatty():
        render.note("Paste the token, then an empty line:")
        text = "".join(iter(lambda: sys.stdin.readline().strip(), ""))
    else:
        text = sys.stdin.read(MAX_TOKEN_SIZE + 1)
    token = "".join(text.split()).strip(QUOTES)
    if not token:
        raise arguments.UsageError("There is no token. A member of the mesh makes one with: meshctl introduce")
    if len(token) > MAX_TOKEN_SIZE:
        raise arguments.UsageError("That is far too long for a token.")
    return token
