"""What the daemon has to offer the control server, and what it learns about the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from meshd.control.passing import Passed
from meshd.control.watchers import Watcher


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end, as the kernel says (SO_PEERCRED), and what it may do."""

    pid: int
    uid: int
    gid: int
    permission: str  # read, write or admin: the highest


class Backend(Protocol):
    """The daemon, as the control server sees it.

    Parameters arrive checked against the table, with defaults filled in (an optional one without a default is None if
    it was left out) and in their JSON form; ``encodings`` turns bytes and times into values and back. Permissions are
    checked already.
    """

    def identity(self) -> tuple[str, str]:
        """The daemon's version and this node's id in text form, for the first line of every connection."""

    async def call(
        self, method: str, params: dict[str, Any], caller: Caller, passed: Passed | None = None
    ) -> dict[str, Any]:
        """Do it and give the result. Raises ControlError. Cancelled when the client goes away.

        ``passed`` comes with the methods whose table entry asks for a descriptor; if it is not taken by the time that
        this returns or raises, it is closed.
        """

    def watch(self, method: str, params: dict[str, Any], caller: Caller, watcher: Watcher) -> dict[str, Any]:
        """Begin a subscription (``events.subscribe``, ``messages.subscribe``) and give the result.

        Posts the snapshot to ``watcher`` before it returns, and every change from then on: so nothing falls between.
        What is posted before it returns does not count against the watcher's limit. Raises ControlError.
        """

    def unwatch(self, watcher: Watcher) -> None:
        """End it. Called once for every ``watch`` that succeeded; posting to the watcher afterwards does nothing."""
