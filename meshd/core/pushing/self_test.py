"""Pushes to ourselves: whether our subscriptions work, and how long a push takes there and back.

A test takes the whole way that a peer's push would take: encrypted, with a capability, to the service, back over the
receiver's connection. It runs on a channel of our own at each user agent, or on the very channel that a holder has
reported dead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.context import Context
from meshd.core.facts import ChannelDead, PushOutcome, UserAgentDead
from meshd.core.pushing.channels import Agent, Channels
from meshd.core.pushing.pushing import Pushing
from meshd.core.pushing.statuses import Verdict
from meshd.errors import Code
from meshd.ids import ChannelId, RequestId

# Policy
FIRST_TEST_DELAY = 300.0  # seconds from the start of a daemon; it has better things to do
READY_TIMEOUT = 10.0  # seconds for a service to give the test's channel an endpoint
ACCEPT_TIMEOUT = 20.0  # seconds for a service to take the push, retries included
DELIVERY_TIMEOUT = 30.0  # seconds from there to its arrival; services are seconds late at times
MAX_PROBES = 64  # at a time
MAX_WAITING = 32  # requests for a test
LOST_TO_BE_DEAD = 2  # tests in a row that were accepted and never came, until the subscription is taken for dead
NONCE_SIZE = 32
_CAPABILITY_LIFETIME = 3600  # seconds; only for the test


@dataclass(slots=True)
class _Probe:
    """A test under way. Times are monotonic seconds."""

    agent: Agent
    nonce: bytes = field(repr=False)
    began: float
    reported: bool = False  # it is about a holder's report, and about that channel alone
    sent: float | None = None
    accepted: float | None = None
    arrived: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How the last test of a user agent went. ``outcome``: ``ok``; ``dead``: the service says that the subscription is
    no more; ``lost``: taken, and not delivered; ``refused``: our capability is not taken; ``down``: no service.

    ``when`` in Unix seconds; ``accepted`` and ``delivered`` in seconds from the sending.
    """

    outcome: str
    when: float
    accepted: float | None = None
    delivered: float | None = None
    detail: str = ""


class SelfTest:
    """Tests our own subscriptions: on schedule, when asked, and when a holder says that one is dead."""

    __slots__ = ("_channels", "_ctx", "_lost", "_probes", "_pushing", "_waiting", "results")

    def __init__(self, ctx: Context, channels: Channels, pushing: Pushing) -> None:
        self._ctx = ctx
        self._channels = channels
        self._pushing = pushing
        self._probes: dict[ChannelId, _Probe] = {}
        self._waiting: list[RequestId] = []
        self._lost: dict[Agent, int] = {}  # tests in a row
        self.results: dict[Agent, Result] = {}

    # -- beginning ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Be a member: test from time to time."""
        self._ctx.timers.set_at_latest(("self_test", b""), self._ctx.now.mono + self._ctx.jitter(FIRST_TEST_DELAY))

    def stop(self) -> None:
        """Be none any more."""
        self._ctx.cancel_timer("self_test", b"")
        for channel in list(self._probes):
            self._drop(channel)
        self.results.clear()
        self._lost.clear()
        self._answer()

    def on_timer(self) -> None:
        """Time for the next test. An interval of 0: look again whether that is still so."""
        interval = self._ctx.config.push.self_test_interval
        self._ctx.timer("self_test", b"", self._ctx.jitter(interval or FIRST_TEST_DELAY))
        if interval:
            self.run()

    def ask(self, request: RequestId) -> None:
        """Test now; answered when all tests have ended."""
        if len(self._waiting) >= MAX_WAITING:
            self._ctx.refuse(request, Code.BUSY, "Many wait for a test already.")
            return
        self._waiting.append(request)
        self.run()

    def run(self) -> None:
        """Test every user agent that we are."""
        for agent in self._channels.open_agents():
            channel = self._channels.own(agent)
            if channel is None:
                self._conclude(agent, "down", detail="there is no room for one more channel")
            elif channel not in self._probes:
                self._begin(channel, agent)
        self._answer()

    def probe(self, channel: ChannelId) -> bool:
        """Test a holder's channel, which is said to be dead. False if that cannot be, or is being done."""
        row = self._channels.row(channel)
        if row is None or not row.endpoint or channel in self._probes or len(self._probes) >= MAX_PROBES:
            return False
        self._begin(channel, (row.service, bool(row.newcomer)), reported=True)
        return True

    def _begin(self, channel: ChannelId, agent: Agent, *, reported: bool = False) -> None:
        probe = _Probe(agent, self._ctx.rng.randbytes(NONCE_SIZE), self._ctx.now.mono, reported)
        self._probes[channel] = probe
        if not self._channels.is_connected(agent):
            self._end(channel, "down", "the push service is not connected")
        elif self._channels.is_ready(channel):
            self._send(channel, probe)
        else:
            self._ctx.timer("probe", channel, READY_TIMEOUT)

    def on_channel_ready(self, channel: ChannelId) -> None:
        """The test's own channel has an endpoint."""
        probe = self._probes.get(channel)
        if probe is not None and probe.sent is None:
            self._send(channel, probe)

    def _send(self, channel: ChannelId, probe: _Probe) -> None:
        probe.sent = self._ctx.now.mono
        self._ctx.timer("probe", channel, ACCEPT_TIMEOUT + DELIVERY_TIMEOUT)
        part = self._channels.subscription(channel, [int(self._ctx.now.unix) + _CAPABILITY_LIFETIME])
        name = b"probe" + channel
        if not self._pushing.send(name, probe.nonce, subscriptions=(part,), lifetime=ACCEPT_TIMEOUT):
            self._end(channel, "down", "too many pushes are under way")

    # -- what becomes of them -----------------------------------------------------------------------------------------

    def on_push_outcome(self, push: PushOutcome) -> bool:
        """Of one of our tests; True if it was."""
        channel = ChannelId(push.name.removeprefix(b"probe"))
        probe = self._probes.get(channel)
        if probe is None or not push.name.startswith(b"probe"):
            return False
        if push.outcome == "accepted":
            probe.accepted = self._ctx.now.mono
            probe.sent = probe.sent if push.left is None else push.left  # what our own budget held up is no service's
            if probe.arrived is not None:  # it was faster than the answer
                self._end(channel, "ok")
            else:
                self._ctx.timer("probe", channel, DELIVERY_TIMEOUT)
        elif push.outcome == "gone":
            self._end(channel, "dead", push.detail)
        else:
            self._end(channel, "refused" if push.verdict is Verdict.UNAUTHORIZED else "down", push.detail)
        return True

    def on_push(self, channel: ChannelId, plaintext: bytes) -> bool:
        """Whether that is our own push come back."""
        probe = self._probes.get(channel)
        if probe is None or plaintext != probe.nonce:
            return False
        probe.arrived = self._ctx.now.mono
        if probe.accepted is not None:
            self._end(channel, "ok")
        return True

    def on_timeout(self, about: bytes) -> None:
        """It has taken too long."""
        channel = ChannelId(about)
        probe = self._probes.get(channel)
        if probe is None:
            return
        if probe.sent is None:
            self._end(channel, "down", "the push service has given no endpoint")
        elif probe.accepted is None:
            self._end(channel, "down", "the push service has not answered")
        elif not self._channels.is_connected(probe.agent):
            self._end(channel, "down", "the connection to the push service was lost")
        else:
            self._end(channel, "lost", "the push service took it and did not deliver it")

    def _drop(self, channel: ChannelId) -> _Probe:
        self._ctx.cancel_timer("probe", channel)
        self._pushing.cancel(b"probe" + channel)
        return self._probes.pop(channel)

    def _end(self, channel: ChannelId, outcome: str, detail: str = "") -> None:
        probe = self._drop(channel)
        if probe.reported:
            self._ctx.count("reports_confirmed" if outcome == "dead" else "reports_unconfirmed")
            if outcome == "dead":
                self._ctx.state(ChannelDead(channel))
            return
        sent = probe.began if probe.sent is None else probe.sent
        accepted = None if probe.accepted is None else probe.accepted - sent
        delivered = None if probe.arrived is None else probe.arrived - sent
        self._conclude(probe.agent, outcome, accepted, delivered, detail)
        self._answer()

    def _conclude(
        self,
        agent: Agent,
        outcome: str,
        accepted: float | None = None,
        delivered: float | None = None,
        detail: str = "",
    ) -> None:
        self.results[agent] = Result(outcome, self._ctx.now.unix, accepted, delivered, detail)
        self._ctx.count("push_tests" if outcome == "ok" else "push_tests_failed")
        if outcome != "ok":
            self._ctx.notify("push_test_failed", service=agent[0], outcome=outcome, detail=detail)
        self._lost[agent] = self._lost.get(agent, 0) + 1 if outcome == "lost" else 0
        if outcome == "dead" or self._lost[agent] >= LOST_TO_BE_DEAD:
            self._lost[agent] = 0
            self._ctx.state(UserAgentDead(agent[0], agent[1]))

    def _answer(self) -> None:
        """Tell those who wait, when nothing is under way any more."""
        if any(not probe.reported for probe in self._probes.values()):
            return
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._ctx.respond(request, tests=self.view())

    def abandon(self, request: RequestId) -> None:
        """Nobody waits for that answer any more."""
        self._waiting = [waiting for waiting in self._waiting if waiting != request]

    def doubts(self) -> list[str]:
        """What is to be said beside a new token: that the user agent which tokens are with has failed its last test."""
        return [
            f"The last test of {service} has failed ({result.outcome}): whoever joins through it may get no answer. "
            "Test it again: meshctl push test"
            for (service, newcomers), result in self.results.items()
            if newcomers and result.outcome != "ok"
        ]

    # -- view ---------------------------------------------------------------------------------------------------------

    def view(self) -> list[dict[str, object]]:
        """The last result of every user agent that there is."""
        return [
            {
                "service": agent[0],
                "newcomers": agent[1],
                "outcome": result.outcome,
                "tested_at": result.when,
                "accepted": result.accepted,
                "delivered": result.delivered,
                "detail": result.detail,
            }
            for agent in self._channels.open_agents()
            if (result := self.results.get(agent)) is not None
        ]
