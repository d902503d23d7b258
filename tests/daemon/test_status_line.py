"""The line that systemd shows, and how often it is told."""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshd.daemon import status as status_module
from meshd.daemon.status import StatusLine, status_line
from meshd.systemd import Notifier

STATUS = {
    "state": "member",
    "mesh": {"name": "home"},
    "name": "laptop",
    "links": 2,
    "members": 3,
    "push": [],
    "twin": None,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"push": [{"state": "connected", "test": None}]}, "member of home as laptop: 2 links up, 3 members, push ok"),
        ({"links": 1, "members": 1}, "member of home as laptop: 1 link up, 1 member, push off"),
        ({"push": [{"state": "down"}, {"state": "connecting"}]}, "3 members, push connecting"),
        ({"push": [{"state": "down"}, {"state": "connected", "test": None}]}, "push ok"),
        ({"twin": "kept"}, "push off; another daemon has this node's identity"),
        ({"twin": "aside"}, "member of home, keeping still: another daemon has this node's identity"),
        ({"state": "joining", "mesh": None}, "joining a mesh: waiting for the introducer"),
        ({"state": "no_mesh", "mesh": None}, "no mesh yet: meshctl found or meshctl join"),
    ],
)
def test_status_line(changes: dict[str, Any], expected: str) -> None:
    assert expected in status_line({**STATUS, **changes})


async def test_line_is_told_when_it_changes_and_not_too_often(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        current = dict(STATUS)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        line = StatusLine(notifier, lambda: current)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            for links in range(100):
                current["links"] = links
                line.touch()
                await trio.sleep(status_module.STATUS_INTERVAL / 20)
            line.note = "restart for links.max_links"
            line.touch()
            await trio.sleep(status_module.STATUS_INTERVAL)
            nursery.cancel_scope.cancel()
        notifier.close()
        told = []
        while True:
            try:
                told.append(manager.recv(4096).decode())
            except BlockingIOError:
                break
        assert len(told) <= 7
        assert told[-1].endswith("99 links up, 3 members, push off (restart for links.max_links)")
