"""Join a mesh with an introduction token, made by one of its members with `meshctl introduce`.

On a member: take the call of somebody who has no token, a web page for instance. Its text says how to push to it, and
who it is; you are shown that and asked, since it becomes a member on your word. It is answered by one push.
"""

from __future__ import annotations

import argparse
import sys
import time

from meshctl import arguments, calling, durations, hostname, render
from meshctl.client import Client
from meshd.control.jsonrpc import Notification

METHODS = ("mesh.join", "calls.answer")
EXAMPLE = """\
meshctl join meshd1_… --name laptop
meshctl join - < token.txt
meshctl join meshd-call1_… --yes"""
JSON = "the result of mesh.join, or of calls.answer"

QUOTES = "\"'`<>\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e"  # what chat programs and people put around a token
MAX_TOKEN_SIZE = 65_536  # characters; a token has some hundreds


def configure(parser: argparse.ArgumentParser) -> None:
    """The token or call, and a name."""
    parser.add_argument(
        "token", metavar="TOKEN", nargs="*", default=[], help="the token or call; none or - for standard input"
    )
    parser.add_argument(
        "--name", help="this node's name in the mesh (default: made from the host name); of a call: the caller's name"
    )
    parser.add_argument("--yes", action="store_true", help="of a call: admit the caller without being asked")
    parser.add_argument("--timeout", type=arguments.duration, metavar="DURATION", help="how long to try (default: 60s)")


def run(args: argparse.Namespace, client: Client) -> int:
    """Join, and tell what happens meanwhile; or answer a call."""
    from meshd.control.methods import DEFAULT_JOIN_TIMEOUT

    text = _pasted(args.token)
    if calling.is_call(text):
        return calling.run(args, client, text)
    params = {"token": _token(text), "name": args.name or hostname.as_name(), "timeout": args.timeout}
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


def _pasted(words: list[str]) -> str:
    if words and words != ["-"]:
        text = " ".join(words)
    elif sys.stdin.isatty():
        render.note("Paste the token, then an empty line:")
        text = "\n".join(iter(lambda: sys.stdin.readline().strip(), ""))
    else:
        text = sys.stdin.read(MAX_TOKEN_SIZE + 1)
    if len(text) > MAX_TOKEN_SIZE:
        raise arguments.UsageError("That is far too long for a token.")
    return text


def _token(text: str) -> str:
    token = "".join(text.split()).strip(QUOTES)
    if not token:
        raise arguments.UsageError("There is no token. A member of the mesh makes one with: meshctl introduce")
    return token
