"""A change of our subscriptions, whatever its cause: new channels, a higher generation, and new grants to all holders.

Causes: a push service has forgotten us (another uaid); a subscription is dead though its service says nothing (our own
test, or a holder's report that our own test confirms); somebody asks for it; it is time for new keys.
"""

from __future__ import annotations

from meshd.core.commands import Put
from meshd.core.context import Context
from meshd.core.membership.membership import Membership
from meshd.core.pushing.audit import Audit
from meshd.core.pushing.channels import Agent, Channels
from meshd.core.pushing.granting import Granting
from meshd.core.pushing.grants import endpoint_hash
from meshd.core.pushing.holders import Holders
from meshd.core.pushing.self_test import SelfTest
from meshd.core.state import Stored, decode_time, encode_time
from meshd.errors import Code
from meshd.ids import ChannelId, PeerId, RequestId
from meshd.wire.granting import SubscriptionDead

# Policy
KEEP_OLD = 86400.0  # seconds that replaced channels are listened to, at least: pushes to them may be on their way
START_OVER_INTERVAL = 3600.0  # seconds between two new user agents at one service, whatever our tests say
REPORT_INTERVAL = 600.0  # seconds between two reports of one holder that are looked into: each costs a push
ROTATION_LOOK_INTERVAL = 3600.0  # seconds between looks whether it is time for new keys
_ROTATED_KEY = b"/rotated"  # in the table of user agents; no service is called so


class SubscriptionChange:
    """Makes our subscriptions anew, some or all."""

    __slots__ = (
        "_audit",
        "_channels",
        "_ctx",
        "_granting",
        "_holders",
        "_membership",
        "_reported",
        "_rotated",
        "_self_test",
        "_started_over",
    )

    def __init__(
        self,
        ctx: Context,
        stored: Stored,
        membership: Membership,
        channels: Channels,
        holders: Holders,
        granting: Granting,
        self_test: SelfTest,
        audit: Audit,
    ) -> None:
        self._ctx = ctx
        self._membership = membership
        self._channels = channels
        self._holders = holders
        self._granting = granting
        self._self_test = self_test
        self._audit = audit
        self._rotated = decode_time(stored.get("user_agents", {}).get(_ROTATED_KEY, b""))
        self._started_over: dict[Agent, float] = {}
        self._reported: dict[PeerId, float] = {}

    # -- causes -------------------------------------------------------------------------------------------------------

    def on_forgotten(self, agent: Agent) -> None:
        """The service knew nothing of us: everything there has been made anew already."""
        self._changed("forgotten", agent[0])

    def on_user_agent_dead(self, agent: Agent) -> None:
        """Our own test has shown it: be another user agent there. The service's answer does the rest."""
        last = self._started_over.get(agent)
        if last is None or self._ctx.now.mono - last >= START_OVER_INTERVAL:
            self._started_over[agent] = self._ctx.now.mono
            self._ctx.count("user_agents_given_up")
            self._channels.start_over(agent)

    def on_channel_dead(self, channel: ChannelId) -> None:
        """A holder was right: this one channel is no more. If its whole user agent is not, our next test will tell."""
        holders = self._holders.of_channel(channel)
        row = self._channels.row(channel)
        if row is None or not holders:
            return
        if row.retired:
            self._channels.take_back(channel)
        else:
            self._channels.renew(channel, self._ctx.now.unix, 0)
            self._audit.record("changed", holders[0] if len(holders) == 1 else b"", row.service, detail="dead")
            self._self_test.run()
        self._granting.look_soon()

    def on_report(self, peer: PeerId, report: SubscriptionDead) -> None:
        """A holder says that its subscription is dead. Believed when our own push to it says so, too."""
        last = self._reported.get(peer)
        if last is not None and self._ctx.now.mono - last < REPORT_INTERVAL:
            self._ctx.count("reports_too_often")
            return
        self._reported[peer] = self._ctx.now.mono
        for channel, row in self._channels:
            is_meant = bool(row.endpoint) and endpoint_hash(row.endpoint) == report.endpoint_hash
            if is_meant and peer in self._holders.of_channel(channel):
                self._self_test.probe(channel)
                return
        self._ctx.count("reports_of_others")  # most likely of one that we have replaced: it lacks the new one
        self._holders.mistrust(peer)
        self._granting.give(peer)

    # -- on purpose ---------------------------------------------------------------------------------------------------

    def ask(self, request: RequestId, peer: PeerId | None) -> None:
        """Somebody wants new subscriptions and keys, for one member or for everybody. The old ones stay for a while."""
        if not self._channels.services:
            self._ctx.refuse(request, Code.PUSH_UNAVAILABLE, "push.services in the configuration is empty.")
            return
        if peer is not None and self._holders.row(peer) is None:
            self._ctx.refuse(request, Code.REFUSED, "That member holds nothing of ours.")
            return
        if peer is None or self._channels.is_shared:
            count = self.renew_all("asked")
        else:
            self._holders.renew(peer, KEEP_OLD)
            self._audit.record("changed", peer, detail="asked")
            self._granting.look_soon()
            count = 1
        self._ctx.respond(request, holders=count, generation=self._granting.generation())

    def renew_all(self, cause: str) -> int:
        """New channels and keys for all members that hold something; how many they are. Tokens stay as they are."""
        self._note_rotated()
        count = self._holders.renew_all(KEEP_OLD)
        self._changed(cause)
        return count

    def on_rotation_timer(self) -> None:
        """Is it time for new keys?"""
        self._ctx.timer("rotation", b"", self._ctx.jitter(ROTATION_LOOK_INTERVAL))
        interval = self._ctx.config.push.rotation_interval
        if not self._rotated or self._rotated > self._ctx.now.unix:  # the first time, or the clock was set back
            self._note_rotated()
        elif interval and self._ctx.now.unix - self._rotated >= interval:
            self.renew_all("scheduled")

    def _note_rotated(self) -> None:
        self._rotated = int(self._ctx.now.unix)
        self._ctx.persist(Put("user_agents", _ROTATED_KEY, encode_time(self._ctx.now.unix)))

    def take_back(self, peer: PeerId, *, revoked: bool) -> None:
        """That peer is no member any more: its channels go. A subscription that others share goes if it is revoked."""
        shared = self._channels.is_shared and self._holders.row(peer) is not None
        self._reported.pop(peer, None)
        self._granting.forget(peer)
        if shared and revoked:
            self._holders.renew_all(0.0, at_once=True)
            self._changed("revoked")

    def _changed(self, cause: str, service: str = "") -> None:
        self._membership.new_generation()
        self._ctx.count("subscription_changes")
        self._audit.record("changed", b"", service, detail=cause)
        self._ctx.notify("subscriptions_changed", cause=cause, generation=self._granting.generation())
        self._granting.look_soon()
