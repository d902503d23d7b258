"""What becomes of a mesh when its push service forgets everything, or gives way to another one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from demo.processes import Daemon, Mesh, PushService, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]  # many starts of daemons, one after the other


def generation(daemon: Daemon) -> int:
    """Of its subscriptions, as its own capabilities say."""
    return int(daemon.call("capabilities.list")["generation"])


def works(daemon: Daemon) -> bool:
    """Whether a push to itself comes back at once through every service."""
    return all(test["outcome"] == "ok" for test in daemon.call("push.test")["tests"])


def user_agents(daemon: Daemon) -> set[str]:
    """What the service calls it. (Another row in that table is about the last rotation.)"""
    with closing(sqlite3.connect(f"file:{daemon.state}/meshd.db?mode=ro", uri=True)) as database:
        return {
            bytes(value).decode()
            for (value,) in database.execute("SELECT value FROM user_agents WHERE length(value) = 32")
        }


def comes_back_by_push(daemon: Daemon, others: set[str]) -> None:
    """Whether what it holds of the others still calls them."""
    daemon.kill()
    daemon.start()
    wait_for(lambda: daemon.linked() == others, f"{daemon.name} is back")


def test_a_service_that_forgets_everything(mesh: Mesh) -> None:
    """The three that are there subscribe anew and tell each other: then any of them comes back by push."""
    a, b, _ = daemons = mesh.found("a", "b", "c")
    before = {daemon.name: (user_agents(daemon), generation(daemon)) for daemon in daemons}
    mesh.push.stop()
    shutil.rmtree(mesh.directory / "push")
    mesh.push.start()
    for daemon in daemons:
        uaids, number = before[daemon.name]
        wait_for(lambda d=daemon, n=number: generation(d) > n, f"{daemon.name} says that it has changed")  # type: ignore[misc]
        wait_for(lambda d=daemon, u=uaids: works(d) and not user_agents(d) & u, f"{daemon.name} is reached anew")  # type: ignore[misc]
        assert '"event":"subscriptions_lost"' in daemon.log()
    assert a.linked() == {"b", "c"}, "links do not care"
    comes_back_by_push(b, {"a", "c"})


def test_who_was_off_comes_home_by_the_one_that_was_not_forgotten(mesh: Mesh) -> None:
    """The service forgets everybody but c while d is off: c calls nobody in vain, and tells d of the others."""
    a, b, c, d = mesh.found("a", "b", "c", "d")
    d.kill()
    kept = user_agents(c)
    mesh.push.stop()
    with closing(sqlite3.connect(mesh.directory / "push" / "push.sqlite3")) as database:
        names = {uaid for (uaid,) in database.execute("SELECT uaid FROM user_agents")}
        for uaid in names:
            if uaid.hex() not in {text.replace("-", "") for text in kept}:
                for table in ("messages", "channels", "user_agents"):
                    database.execute(f"DELETE FROM {table} WHERE uaid = ?", (uaid,))
        database.commit()
    mesh.push.start()
    for daemon in (a, b):
        wait_for(lambda daemon=daemon: '"event":"subscriptions_lost"' in daemon.log(), "it has noticed")  # type: ignore[misc]
        wait_for(lambda daemon=daemon: works(daemon), "it has subscribed anew")  # type: ignore[misc]
    d.start()
    wait_for(lambda: d.linked() == {"a", "b", "c"}, "d is home", 40.0)
    assert '"event":"subscriptions_lost"' not in c.log()
    comes_back_by_push(d, {"a", "b", "c"})


def configure(daemon: Daemon, config: str) -> None:
    daemon.config_file.write_text(config)
    daemon.stop()
    daemon.start()


def test_moving_to_another_push_service(mesh: Mesh) -> None:
    """As docs/push.md has it: the new one first, node after node; then the old one away."""
    second = PushService(mesh.directory)
    second.log_file, second._state = mesh.directory / "second.log", mesh.directory / "second"
    second.start()
    try:
        a, b = mesh.found("a", "b")
        trusted = f'trusted_origins = ["{second.origin}", "{mesh.push.origin}"]\n'
        unused = a.call("introductions.mint")["token"]
        for daemon, other in ((a, "b"), (b, "a")):
            both = f'services = ["{second.url}", "{mesh.push.url}"]\n{trusted}'
            configure(daemon, mesh.config(daemon.name, push=both))
            wait_for(lambda d=daemon, o=other: d.linked() == {o}, "linked")  # type: ignore[misc]
            wait_for(lambda d=daemon: [s["state"] for s in d.status()["push"]] == ["connected"] * 2, "at both")  # type: ignore[misc]
        c = mesh.add("c", push=f'services = ["{second.url}"]\n{trusted}')
        c.start()
        c.call("mesh.join", token=unused, name="c")
        wait_for(lambda: mesh.fully_linked(a, b, c), "a token of before is good while the old service is there")
        for daemon in (a, b):
            configure(daemon, mesh.config(daemon.name, push=f'services = ["{second.url}"]\n{trusted}'))
            wait_for(lambda: mesh.fully_linked(a, b, c), "linked")
        mesh.push.stop()
        assert [service["service"] for service in a.status()["push"]] == [second.url]
        comes_back_by_push(b, {"a", "c"})
        d = mesh.add("d", push=f'services = ["{second.url}"]\n{trusted}')
        d.start()
        mesh.join(d, a)
        wait_for(lambda: mesh.fully_linked(a, b, c, d), "a new one joins by the new service")
    finally:
        second.kill()
