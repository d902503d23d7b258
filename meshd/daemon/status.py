"""The one line that ``systemctl status`` shows, and keeping it true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import trio

from meshd.systemd import Notifier

# Policy
STATUS_INTERVAL = 1.0  # seconds at least between two lines: a mesh of a thousand changes all the time


def status_line(status: Mapping[str, Any]) -> str:
    """``member of home as laptop: 2 links up, 3 members, push ok``, from the values of ``node.status``."""
    if status["state"] == "joining":
        return "joining a mesh: waiting for the introducer"
    if status["state"] == "revoked":
        return "no member any more: revoked, see meshctl status"
    mesh = status["mesh"]
    if status["state"] != "member" or mesh is None:
        return "no mesh yet: meshctl found or meshctl join"
    if status["twin"] == "aside":
        return f"member of {mesh['name']}, keeping still: another daemon has this node's identity; stop one of the two"
    links, members = _count(status["links"], "link"), _count(status["members"], "member")
    line = f"member of {mesh['name']} as {status['name']}: {links} up, {members}, push {_push(status['push'])}"
    return line + ("; another daemon has this node's identity: see meshctl status" if status["twin"] else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _push(services: list[Mapping[str, Any]]) -> str:
    """The best that any of the services offers: one is enough to be reached."""
    states = {service["state"] for service in services}
    for state, word in (("connected", "ok"), ("connecting", "connecting"), ("down", "down")):
        if state in states:
            return word if state != "connected" else _tested(services)
    return "off"


def _tested(services: list[Mapping[str, Any]]) -> str:
    """One service that our last push to ourselves came back from is enough, too; one not tested yet counts as good."""
    failed = [service["test"] for service in services if service["state"] == "connected"]
    return "ok" if any(test in (None, "ok") for test in failed) else f"test failed ({failed[0]})"


class StatusLine:
    """Sends the line to systemd when something has happened, not too often."""

    def __init__(self, notifier: Notifier, status: Callable[[], Mapping[str, Any]]) -> None:
        self.note = ""
        """Something to look after that is not in the status, such as a refused reload."""
        self._notifier = notifier
        self._status = status
        self._changed = trio.Event()

    def text(self) -> str:
        """The line as it should be now."""
        return status_line(self._status()) + (f" ({self.note})" if self.note else "")

    def touch(self) -> None:
        """Something has happened. Never waits."""
        self._changed.set()

    async def run(self) -> None:
        """Keep it true until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            self._notifier.status(self.text())
            await trio.sleep(STATUS_INTERVAL)
