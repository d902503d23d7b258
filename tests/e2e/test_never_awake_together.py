"""Two real daemons that never run at the same time write to each other, by way of a third."""

import json

import pytest

from demo.processes import Daemon, Failed, Mesh, wait_for

AGAIN = 60.0  # seconds: what is lost at a bad moment is brought again after 15 s, and then after 30 s

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def kept(daemon: Daemon) -> int:
    messages: int = daemon.status()["kept"]["messages"]
    return messages


def outbox(daemon: Daemon) -> list[tuple[str, str, list[str]]]:
    messages = daemon.call("messages.outbox")["messages"]
    return [(entry["name"], entry["state"], entry["kept_by"]) for entry in messages]


def swap(gone: Daemon, come: Daemon, keeper: Daemon) -> None:
    """One is killed before the other begins."""
    gone.kill()
    wait_for(lambda: gone.name not in keeper.linked(), f"{keeper.name} has missed {gone.name}")
    come.start()
    wait_for(lambda: keeper.name in come.linked(), f"{come.name} is back", timeout=60.0)


def test_two_that_never_run_together_write_to_each_other(mesh: Mesh) -> None:
    a, b, c = mesh.found("a", "b", "c")
    b.kill()
    wait_for(lambda: a.linked() == {"c"} and c.linked() == {"a"}, "a and c have missed b")

    assert a.meshctl("send", "--timeout", "1m", "b", "are you there?").stdout == "b is away: c keeps it.\n"
    assert outbox(a) == [("b", "deposited", ["c"])]
    assert "b  " in a.meshctl("outbox").stdout
    assert "1 kept for others" in c.meshctl("status").stdout
    with pytest.raises(Failed, match="c will have it for 168 h"):
        a.meshctl("send", "--wait", "acknowledged", "--timeout", "4s", "b", "hello")

    swap(a, b, c)
    inbox = wait_for(
        lambda: [m for m in b.call("messages.list")["messages"] if len(b.call("messages.list")["messages"]) == 2],
        "c has brought both to b",
        AGAIN,
    )
    assert {message["name"] for message in inbox} == {"a"}
    assert sorted(message["body"] for message in inbox) == ["YXJlIHlvdSB0aGVyZT8", "aGVsbG8"]
    assert "are you there?" in b.meshctl("inbox").stdout
    assert b.meshctl("send", "--timeout", "1m", "a", "not when you are").stdout == "a is away: c keeps it.\n"

    swap(b, a, c)
    wait_for(lambda: not outbox(a), "a knows that b has them", AGAIN)
    assert "message_acknowledged" in a.log()
    wait_for(lambda: a.call("messages.list")["unread"] == 1, "c has brought the answer to a", AGAIN)
    (answer,) = json.loads(a.meshctl("inbox", "--json").stdout)["messages"]
    assert answer["name"] == "b"

    swap(a, b, c)
    wait_for(lambda: not outbox(b), "b knows that a has it", AGAIN)
    wait_for(lambda: kept(c) == 0, "c keeps nothing any more", AGAIN)
    assert b.call("messages.list")["unread"] == 0


def test_a_keeper_killed_with_a_message_in_its_hands(mesh: Mesh) -> None:
    a, b, c = mesh.found("a", "b", "c")
    b.kill()
    wait_for(lambda: a.linked() == {"c"} and c.linked() == {"a"}, "a and c have missed b")
    a.meshctl("send", "--wait", "queued", "b", "hold this")
    wait_for(lambda: '"table":"kept_messages"' in c.log(), "c writes it down", interval=0.001)
    c.kill()
    c.start()
    wait_for(lambda: outbox(a) == [("b", "deposited", ["c"])], "c keeps it", timeout=120.0)
    swap(a, b, c)
    wait_for(lambda: b.call("messages.list")["unread"] == 1, "c has brought it to b", AGAIN)
    swap(b, a, c)
    wait_for(lambda: not outbox(a), "a knows that b has it", AGAIN)
