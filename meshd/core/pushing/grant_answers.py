"""What we tell those who have given us capabilities: that we keep them, and which of their subscriptions are dead."""

from __future__ import annotations

from meshd.core.context import Context
from meshd.core.delivery.post import Post
from meshd.ids import PeerId
from meshd.wire.messages import GrantTaken, SubscriptionDead
from meshd.wire.parts import MAX_SUBSCRIPTIONS


class GrantAnswers:
    """A dead subscription is reported as soon as there is a way to its owner: by push it could not be."""

    __slots__ = ("_ctx", "_dead", "_post")

    def __init__(self, ctx: Context, post: Post) -> None:
        self._ctx = ctx
        self._post = post
        self._dead: dict[PeerId, list[SubscriptionDead]] = {}  # not told yet

    def on_stored(self, peer: PeerId, generation: int, until: int) -> None:
        """What it gave is durable. Without a way nothing is said: the giver asks by giving again."""
        dead = [report for report in self._dead.pop(peer, []) if report.generation >= generation]
        if dead:
            self._dead[peer] = dead
        if self._post.send(peer, GrantTaken(generation, until)):
            self._ctx.count("grants_taken")

    def on_gone(self, peer: PeerId, generation: int, endpoint_hash: bytes) -> None:
        """A push service says that a subscription of that peer's is no more."""
        report = SubscriptionDead(generation, endpoint_hash)
        self._dead[peer] = [*(known for known in self._dead.get(peer, []) if known != report), report]
        del self._dead[peer][:-MAX_SUBSCRIPTIONS]
        self._tell(peer)

    def flush(self) -> None:
        """There may be a way now."""
        for peer in list(self._dead):
            self._tell(peer)

    def _tell(self, peer: PeerId) -> None:
        if all(self._post.send(peer, report) for report in self._dead[peer]):
            self._ctx.count("subscriptions_reported", len(self._dead.pop(peer)))

    def forget(self, peer: PeerId) -> None:
        """That peer is no member any more."""
        self._dead.pop(peer, None)

    def forget_all(self) -> None:
        """We are no member any more."""
        self._dead.clear()
