"""What dies at the wrong moment, and comes back: the push service, the relay, any daemon at any time."""

import base64
import os
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.processes import Daemon, Failed, Mesh, wait_for

pytestmark = pytest.mark.e2e

KILLS = int(os.environ.get("MESHD_KILLS", "20"))  # continuous integration takes 200


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_push_service_down_when_a_join_begins_and_back(mesh: Mesh) -> None:
    a, b = mesh.start("a", "b")
    a.meshctl("found", "home", "--name", "a")
    token = a.call("introductions.mint")["token"]
    mesh.push.kill()
    with ThreadPoolExecutor() as pool:
        joining = pool.submit(b.call, "mesh.join", token=token, name="b")
        wait_for(lambda: b.status()["state"] == "joining", "b tries")
        mesh.push.start()
        assert joining.result()["name"] == "b"
    wait_for(lambda: Mesh.fully_linked(a, b), "a and b are linked")


def test_push_service_dies_with_a_join_in_its_hands(mesh: Mesh) -> None:
    a, b = mesh.start("a", "b")
    a.meshctl("found", "home", "--name", "a")
    token = a.call("introductions.mint")["token"]
    a.signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        joining = pool.submit(b.call, "mesh.join", token=token, name="b")
        wait_for(lambda: b.counter("push_status_201") == 1, "the push service has accepted b's push")
        mesh.push.kill()
        mesh.push.start()
        a.signal(signal.SIGCONT)
        assert joining.result()["name"] == "b"
    wait_for(lambda: Mesh.fully_linked(a, b), "a and b are linked")
    assert [entry["state"] for entry in a.call("introductions.list")["introductions"]] == ["used"]


def test_relay_dies_between_offer_and_answer(mesh: Mesh) -> None:
    """The offer has passed a; the answer cannot go the same way, and takes a push instead.

    a is killed as soon as the one who answers has begun to gather candidates. Should the answer be quicker than the
    signal for once, the test sees a link without a push.
    """
    a, b = mesh.found("a", "b")
    b.kill()  # or it would help c in: then nothing would have to be relayed
    (c,) = mesh.start("c")
    c.call("mesh.join", token=a.call("introductions.mint")["token"], name="c")
    wait_for(lambda: Mesh.fully_linked(a, c), "c is linked to a")
    before_b, before_c = len(b.log()), len(c.log())

    def offered() -> bool:
        answering = re.compile(r'"kind":"PrepareLink".*"offerer":false')
        linked = b.log().find('"event":"link_up"', before_b)  # to a: only from then on can the two offer over it
        return linked >= 0 and bool(answering.search(b.log(), linked) or answering.search(c.log(), before_c))

    b.start()
    wait_for(offered, "b or c has the other's offer", interval=0.001)
    a.kill()
    wait_for(lambda: Mesh.fully_linked(b, c), "b and c are linked without a", timeout=40.0)
    a.start()
    wait_for(lambda: Mesh.fully_linked(a, b, c), "a is back in the mesh", timeout=30.0)


class Writer(threading.Thread):
    """Sends numbered messages from one daemon to another without a pause, and notes which were taken on."""

    def __init__(self, sender: Daemon, receiver: str) -> None:
        super().__init__(daemon=True)
        self._sender = sender
        self._receiver = receiver
        self._enough = threading.Event()
        self.taken_on: dict[str, str] = {}  # by body: acknowledged or queued
        self.unexpected: list[BaseException] = []

    def run(self) -> None:
        number = 0
        while not self._enough.is_set():
            number += 1
            body = encoded(f"message {number}")
            try:
                result = self._sender.call("messages.send", peer=self._receiver, body=body, wait=True)
                self.taken_on[body] = result["state"]
            except (OSError, ValueError):
                time.sleep(0.02)  # it is dead at the moment, or died in the middle of its answer
            except Failed as failure:
                if failure.symbol not in ("not_acknowledged", "stopping", "no_mesh", "peer_unknown"):
                    self.unexpected.append(failure)

    def stop(self) -> None:
        self._enough.set()
        self.join()


@pytest.mark.timeout(900)
def test_kill_9_at_random_points_loses_nothing_that_was_promised(mesh: Mesh) -> None:
    """Identity, membership and every message that was taken on survive, whoever is killed and whenever."""
    chance = random.Random(20250301)  # the moments are random, the series of choices is not
    a, b = mesh.add("a"), mesh.add("b", "[mesh]\nmax_inbox_messages = 100000\nmax_inbox_size = 104857600\n")
    for daemon in (a, b):
        daemon.start()
    a.meshctl("found", "home", "--name", "a")
    Mesh.join(b, a)
    identities = {daemon.name: daemon.status()["peer_id"] for daemon in (a, b)}
    writer = Writer(a, "b")
    writer.start()
    for _ in range(KILLS):
        victim = chance.choice((a, b))
        time.sleep(chance.uniform(0.0, 0.8))  # from the middle of starting to the middle of sending
        victim.kill()
        victim.begin()
    for daemon in (a, b):
        daemon.wait_until_ready()
        assert daemon.status()["peer_id"] == identities[daemon.name]
        assert daemon.status()["state"] == "member"
    writer.stop()
    assert not writer.unexpected
    assert "acknowledged" in writer.taken_on.values()
    wait_for(lambda: Mesh.fully_linked(a, b), "a and b are linked again", timeout=60.0)
    wait_for(lambda: a.status()["outbox"]["queued"] == 0, "everything has been delivered", timeout=60.0)
    inbox = [message["body"] for message in all_messages(b)]
    assert set(writer.taken_on) <= set(inbox)
    assert len(inbox) == len(set(inbox)), "a message came twice"


def all_messages(daemon: Daemon) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    while batch := daemon.call("messages.list", limit=1000)["messages"]:
        messages += batch
        daemon.call("messages.read", message_ids=[message["message_id"] for message in batch])
    return messages
