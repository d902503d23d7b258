"""kill -9 right after each kind of write to the store, in the middle of a join and of a message: it ends well all the
same, with the same token and without a second one."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.processes import Daemon, Failed, Mesh, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WATCH_INTERVAL = 0.001


def kill_when_it_writes(daemon: Daemon, table: str, began: int) -> None:
    """Wait for the first write to ``table`` after ``began`` characters of log, and kill."""
    line = re.compile(rf'"kind":"Persist".*"table":"{table}"')
    wait_for(
        lambda: line.search(daemon.log(), began), f"{daemon.name} writes to {table}", 30.0, interval=WATCH_INTERVAL
    )
    daemon.kill()


@pytest.mark.parametrize(
    ("victim", "table"),
    [
        *(("b", table) for table in ("channels", "user_agents", "seen", "mesh", "records", "grants")),
        *(("a", table) for table in ("introductions", "admitted", "seen", "channels", "records", "grants")),
    ],
)
def test_in_the_middle_of_a_join(mesh: Mesh, victim: str, table: str) -> None:
    a, b = mesh.start("a", "b")
    a.meshctl("found", "home", "--name", "a")
    minted = a.call("introductions.mint")
    identity = b.status()["peer_id"]
    killed = mesh.daemons[victim]
    began = len(killed.log())
    with ThreadPoolExecutor() as pool:
        joining = pool.submit(b.call, "mesh.join", token=minted["token"], name="b")
        kill_when_it_writes(killed, table, began)
        killed.start()
        try:
            joining.result()
        except (Failed, OSError):  # b died: the person at the keyboard tries again, with the same token
            if b.status()["state"] == "no_mesh":
                b.call("mesh.join", token=minted["token"], name="b")
    wait_for(lambda: Mesh.fully_linked(a, b), "a and b are linked", timeout=60.0)
    assert b.status()["peer_id"] == identity
    assert [peer["peer_id"] for peer in a.call("peers.list")["peers"]] == [identity]
    assert [entry["state"] for entry in a.call("introductions.list")["introductions"]] == ["used"]


@pytest.mark.parametrize(("victim", "table"), [("a", "outbox"), ("b", "inbox"), ("b", "received")])
def test_in_the_middle_of_a_message(mesh: Mesh, victim: str, table: str) -> None:
    a, b = mesh.found("a", "b")
    killed = mesh.daemons[victim]
    began = len(killed.log())
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(a.call, "messages.send", peer="b", body="aGVsbG8")
        kill_when_it_writes(killed, table, began)
        killed.start()
        promised = True
        try:
            sending.result()
        except (Failed, OSError):
            promised = False
    wait_for(lambda: Mesh.fully_linked(a, b), "a and b are linked again", timeout=60.0)
    wait_for(lambda: a.status()["outbox"]["queued"] == 0, "nothing is on its way any more", timeout=60.0)
    inbox = [message["body"] for message in b.call("messages.list")["messages"]]
    assert inbox == ["aGVsbG8"] or (not promised and not inbox)
