"""A page without a token calls: its text is pasted into meshctl join, and one push later it is in the mesh."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from subprocess import CompletedProcess

import pytest
import trio

from demo.processes import Daemon, Mesh, wait_for
from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel
from meshd.core.events import ChannelRegistered, Event, LinkConnected, LinkPrepared, PushReceived, UserAgentConnected
from meshd.core.pushing.capabilities import is_usable
from meshd.crypto.suite import RealSuite
from meshd.daemon.driver import read_clocks
from meshd.ids import ChannelId, PeerId, SessionId
from meshd.push.user_agent import UserAgents
from meshd.wire.endpoint import join_endpoint
from meshd.wire.joining import JoinAccepted
from meshd.wire.messages import Records, encode_message
from meshd.wire.parts import SubscriptionPart
from meshd.wire.session_description import SessionDescription, decode

sys.path.append(str(Path(__file__).parents[1] / "links"))
from caller import Caller
from link_ends import LOOPBACK, End, open_end, run_clean

pytestmark = pytest.mark.e2e
WAIT = 60.0  # seconds that anything may take on a busy machine
SESSION = SessionId(b"a call..")
PUSH_SEED = b"p" * 32


class Page:
    """Stands for a web page: a push subscription, one RTCPeerConnection, and nothing of a daemon."""

    def __init__(self, end: End, agents: UserAgents, service: str) -> None:
        self.end = end
        self.agents = agents
        self.service = service
        self.suite = RealSuite(b"i" * 32, b"s" * 32)
        self.caller: Caller
        self._events: list[Event] = []
        self._came = trio.Event()

    def deliver(self, event: Event) -> None:
        self._events.append(event)
        self._came.set()

    async def wait_for(self, kind: type) -> Event:
        while not (found := [event for event in self._events if isinstance(event, kind)]):
            self._came = trio.Event()
            await self._came.wait()
        return found[0]

    async def subscribe(self) -> None:
        self.agents.submit(OpenUserAgent(self.service, ""))
        await self.wait_for(UserAgentConnected)
        key = self.suite.uncompressed_vapid_key(PUSH_SEED)
        self.agents.submit(RegisterChannel(self.service, ChannelId(b"c" * 16), key))
        registered = await self.wait_for(ChannelRegistered)
        assert isinstance(registered, ChannelRegistered)
        self.caller = Caller(self.suite, PUSH_SEED, registered.endpoint, read_clocks())

    async def gather(self, *, offerer: bool) -> SessionDescription:
        self.end.prepare(offerer=offerer)
        prepared: LinkPrepared = await self.end.wait(LinkPrepared)
        return prepared.description

    async def pushed(self) -> bytes:
        received = await self.wait_for(PushReceived)
        assert isinstance(received, PushReceived)
        self.agents.submit(AcknowledgePush(received.service, received.channel, received.version, 100))
        return self.suite.decrypt_push(PUSH_SEED, received.body)

    async def come(self, peer: PeerId, remote: SessionDescription, *, patience: float = 0.0) -> None:
        self.end.connect(remote, patience=patience)
        connected: LinkConnected = await self.end.wait(LinkConnected)
        ours, theirs = connected.local_fingerprint, connected.remote_fingerprint
        self.end.send(self.caller.hello(SESSION, peer, ours, theirs))

    def say_who_it_is(self) -> None:
        self.end.send(encode_message(Records((self.caller.record().encoded,))))

    def pushes(self) -> int:
        return sum(1 for event in self._events if isinstance(event, PushReceived))


@asynccontextmanager
async def page_at(mesh: Mesh) -> AsyncIterator[Page]:
    end = End()
    page: Page
    config = PushConfig(services=(mesh.push.url,), trusted_origins=(mesh.push.origin,))
    agents = UserAgents(config, lambda event: page.deliver(event), Random(1))
    with trio.fail_after(WAIT):
        async with open_end(end, LOOPBACK) as end.port, trio.open_nursery() as nursery:
            await nursery.start(agents.run)
            page = Page(end, agents, mesh.push.url)
            await page.subscribe()
            yield page
            nursery.cancel_scope.cancel()


async def paste(daemon: Daemon, text: str, result: list[CompletedProcess[str]]) -> None:
    result.append(await trio.to_thread.run_sync(lambda: daemon.meshctl("join", "-", "--yes", stdin=text)))


def push(part: SubscriptionPart, suite: RealSuite, plaintext: bytes) -> int:
    """What any application server does (RFC 8030)."""
    now = read_clocks().unix
    capability = next(c for c in part.capabilities if is_usable(c.exp, now))
    endpoint = join_endpoint(part.prefix, part.tail)
    origin = "/".join(endpoint.split("/")[:3])
    subject = capability.subject or "https://meshd.invalid"
    headers = {
        "Authorization": suite.authorization(part.vapid_key, origin, capability.exp, subject, capability.signature),
        "Content-Encoding": "aes128gcm",
        "TTL": "60",
    }
    body = suite.encrypt_push(part.p256dh, part.auth, plaintext)
    with urllib.request.urlopen(urllib.request.Request(endpoint, body, headers), timeout=WAIT) as answer:
        return int(answer.status)


def is_member(daemon: Daemon) -> bool:
    return any(peer["name"] == "phone" and peer["link"] == "up" for peer in daemon.call("peers.list")["peers"])


@pytest.mark.parametrize("as_json", [False, True])
def test_a_page_calls_and_is_in_the_mesh_one_push_later(mesh: Mesh, as_json: bool) -> None:
    [a] = mesh.found("a")

    async def main() -> None:
        async with page_at(mesh) as page, trio.open_nursery() as nursery:
            offer = replace(await page.gather(offerer=True), ice_options=())
            text = page.caller.json(SESSION, offer) if as_json else page.caller.text(SESSION, offer)
            told: list[CompletedProcess[str]] = []
            nursery.start_soon(paste, a, text, told)
            letter, accepted = page.caller.open(await page.pushed())
            assert isinstance(accepted, JoinAccepted)
            await page.come(letter.sender, decode(accepted.description))
            page.say_who_it_is()
            while not told:  # noqa: ASYNC110 - a process ends
                await trio.sleep(0.01)
            assert "Admitted phone to home" in told[0].stdout
            assert await trio.to_thread.run_sync(lambda: wait_for(lambda: is_member(a), "it is a member"))
            again = await trio.to_thread.run_sync(lambda: a.meshctl("join", "-", "--yes", stdin=text, check=False))
            assert again.returncode == 0, "there is a link: nothing is to be done"
            assert (page.pushes(), mesh.pushes_sent()) == (1, 1)

    run_clean(main)


def test_called_by_its_subscription_alone_with_a_key_that_everybody_has(mesh: Mesh) -> None:
    """The first seed's way: the page publishes its VAPID key pair; the subscription that answers rides in the push."""
    [a] = mesh.found("a")

    async def main() -> None:
        async with page_at(mesh) as page, trio.open_nursery() as nursery:
            told: list[CompletedProcess[str]] = []
            nursery.start_soon(paste, a, page.caller.json(SESSION, None, shares_key=True), told)
            letter, accepted = page.caller.open(await page.pushed())
            assert isinstance(accepted, JoinAccepted)
            assert accepted.grant is not None
            page.end.prepare(offerer=False)
            page.end.connect(decode(accepted.description), patience=WAIT)
            ours: LinkPrepared = await page.end.wait(LinkPrepared)
            envelope, [part] = page.caller.answer(letter, ours.description), accepted.grant.subscriptions
            assert await trio.to_thread.run_sync(push, part, page.suite, envelope) == 201
            connected: LinkConnected = await page.end.wait(LinkConnected)
            hello = page.caller.hello(SESSION, letter.sender, connected.local_fingerprint, connected.remote_fingerprint)
            page.end.send(hello)
            while not told:  # noqa: ASYNC110 - a process ends
                await trio.sleep(0.01)
            assert "Admitted phone to home" in told[0].stdout
            assert page.pushes() == 1

    run_clean(main)


def test_each_call_that_is_no_good_has_its_own_message(mesh: Mesh) -> None:
    [a] = mesh.found("a")

    async def main() -> None:
        async with page_at(mesh) as page:
            page_json = page.caller.page(SESSION, None)
            far = replace(page.caller.part(), prefix="https://127.0.0.1:1/", tail=b"x" * 16)
            inside = Caller(page.suite, PUSH_SEED, "https://169.254.169.254/latest/meta-data", page.caller.now)
            texts = {
                "answered by push. ": inside.text(SESSION, None),
                "cut off": page.caller.text(SESSION, None)[:-20],
                "nobody's in particular": '{"subscription": {"endpoint": "https://push.example/x"}}',
                "too old": page.caller.text(SESSION, None, issued=1_700_000_000, expires=1_700_000_300),
                "another mesh": page.caller.text(SESSION, None, mesh=b"m" * 32),
                "is damaged": str(page_json).replace("'", '"'),
                "cannot be answered": page.caller.text(
                    SESSION, None, grant=replace(page.caller.call(SESSION, None).grant, subscriptions=(far,))
                ),
            }
            for words, text in texts.items():
                done = await trio.to_thread.run_sync(
                    lambda text=text: a.meshctl("join", "-", "--yes", stdin=text, check=False)
                )
                assert done.returncode == 1
                assert words in done.stderr, (words, done.stderr)
            asked = await trio.to_thread.run_sync(
                lambda: a.meshctl("join", "-", stdin=page.caller.text(SESSION, None), check=False)
            )
            assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
            assert page.pushes() == 0

    run_clean(main)
