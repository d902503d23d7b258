"""``make demo``: three real daemons and a push service find together on this machine and talk.

Each step is a command as a person would type it, with what it printed, how long it took and how many push messages
it cost. ``KEEP=1`` leaves everything running until Ctrl-C.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from demo.processes import Daemon, Failed, Mesh, program, wait_for

# What the protocol promises: a joiner sends one push and gets one; after that the peers need none.
PUSHES_FOR_A_JOIN = 2
PUSHES_FOR_A_LINK = 0

LINK_TIMEOUT = 5.0  # seconds
TOKEN = re.compile(r"\bmeshd1_[A-Za-z0-9_-]+")
SHOWN_CHARS = 40  # of a token
INDENT = " " * 10
WIDTH = 100  # columns of what meshctl printed


class Stage:
    """Shows what is done, with time and pushes."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._began = time.monotonic()
        self._tty = sys.stdout.isatty()

    def say(self, text: str) -> None:
        """A line of its own, with the time since the start."""
        print(f"{self._paint('2', f'{time.monotonic() - self._began:6.2f} s')}  {text}", flush=True)

    def type(self, daemon: Daemon, *arguments: str, stdin: str = "") -> str:
        """Run meshctl and show it as typed on that daemon's machine. Returns what it printed."""
        shown = " ".join(_quoted(argument) for argument in arguments)
        piped = f"echo {_quoted(stdin.strip())} | " if stdin else ""
        began, pushes = time.monotonic(), self._mesh.pushes_sent()
        done = daemon.meshctl(*arguments, stdin=stdin, merge=True)
        took, pushed = time.monotonic() - began, self._mesh.pushes_sent() - pushes
        cost = f"{took * 1000:.0f} ms" + (f", {_pushes(pushed)}" if pushed else "")
        self.say(f"{self._paint('1', f'{daemon.name}$ {piped}meshctl {shown}')}  {self._paint('36', f'({cost})')}")
        for line in done.stdout.rstrip().splitlines():
            for piece in textwrap.wrap(_shortened(line), WIDTH) if len(line) > WIDTH else [line]:
                print(f"{INDENT}{piece}")
        sys.stdout.flush()
        return done.stdout

    def pushes_taken(self, expected: int, what: str, action: Callable[[], object]) -> None:
        """Do something and hold it to the number of pushes that it may take. Raises Failed for another number."""
        before, began = self._mesh.pushes_sent(), time.monotonic()
        action()
        taken, took = self._mesh.pushes_sent() - before, time.monotonic() - began
        if taken != expected:
            raise Failed(f"{what} took {_pushes(taken)}, not {expected}")
        self.say(self._paint("32", f"=> {what}: {took * 1000:.0f} ms, {_pushes(taken)}"))

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._tty else text


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument else _shortened(argument)


def _shortened(text: str) -> str:
    """With tokens cut to what fits in a line. They are for the clipboard, not for the eye."""
    return TOKEN.sub(lambda found: f"{found[0][:SHOWN_CHARS]}…", text)


def _pushes(count: int) -> str:
    return "1 push" if count == 1 else f"{count} pushes"


def introduce(stage: Stage, introducer: Daemon, newcomer: Daemon) -> None:
    """Mint a token on one, join with it on the other. Two pushes, or it is an error."""
    found = TOKEN.search(stage.type(introducer, "introduce"))
    if not found:
        raise Failed(f"{introducer.name} has minted no token")
    stage.pushes_taken(
        PUSHES_FOR_A_JOIN,
        f"{newcomer.name} is a member, with a link to {introducer.name}",
        lambda: stage.type(newcomer, "join", found[0], "--name", newcomer.name),
    )


def play(mesh: Mesh) -> None:
    """The whole of it. Raises Failed at the first thing that is not as promised."""
    stage = Stage(mesh)
    a, b, c = mesh.start("a", "b", "c")
    stage.say(f"push service on {mesh.push.origin}; three daemons: a, b, c")

    stage.type(a, "found", "home", "--name", "a")
    introduce(stage, a, b)
    introduce(stage, a, c)

    def all_linked() -> bool:
        return all(len(daemon.linked()) == 2 for daemon in (a, b, c))

    stage.pushes_taken(
        PUSHES_FOR_A_LINK,
        "b and c have a link, signaled through a",
        lambda: wait_for(all_linked, "b and c are linked", LINK_TIMEOUT),
    )
    for daemon in (a, b, c):
        stage.type(daemon, "peers")
    stage.type(a, "send", "b", "hello from a")
    stage.type(b, "send", "c", stdin="hello from b\n")
    stage.type(c, "send", "a", "hello from c")
    for daemon, text in ((a, "hello from c"), (b, "hello from a"), (c, "hello from b")):
        if text not in stage.type(daemon, "inbox"):
            raise Failed(f"{daemon.name} has not got {text!r}")


def keep(mesh: Mesh) -> None:
    """Say how to play with it, and wait for Ctrl-C."""
    print("\nIt all stays up until Ctrl-C. In another terminal:\n")
    print(f"  export PATH={Path(program('meshctl')).parent}:$PATH")
    for daemon in mesh.daemons.values():
        print(f"  MESHD_SOCKET={daemon.socket} meshctl status")
    first = mesh.daemons["a"]
    print(f"  export MESHD_SOCKET={first.socket}")
    print("  meshctl peers; meshctl ping b; meshctl send b hello; meshctl events")
    print(f"\nLogs: {mesh.directory}/*.log", flush=True)
    with suppress(KeyboardInterrupt):
        signal.pause()
    print("Stopping.")


def main() -> int:
    """Run the demo. Returns the exit status: 0 if all was as promised and nothing is left running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Mesh(log_level="info") as mesh:
        try:
            play(mesh)
            if os.environ.get("KEEP"):
                keep(mesh)
            slowest = max(process.stop() for process in (*mesh.daemons.values(), mesh.push))
        except Failed as failure:
            print(f"\nFAILED: {failure}\n\nThe last lines of each log:\n{mesh.last_lines()}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped; nothing is left running.", file=sys.stderr)
            return 130
        if any(process.pid for process in (*mesh.daemons.values(), mesh.push)):
            print("FAILED: something is still running", file=sys.stderr)
            return 1
    print(f"\nDone. All four processes have stopped (the slowest in {slowest:.2f} s), nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
