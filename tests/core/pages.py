"""Pages whose calls people paste to members, on the stage: the push service they listen at is the test's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from caller import Caller
from playbook import Player, Stage

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.ids import LinkId, SessionId
from meshd.sim.suite import SimSuite
from meshd.wire.messages import Records, encode_message

SESSION = SessionId(b"a call..")


class Page(Caller):
    """A caller on the stage: its push service is the test's, and so is its link."""

    def __init__(self, stage: Stage, name: str = "page") -> None:
        seed = hashlib.sha256(name.encode()).digest()
        suite = SimSuite(stage.keys, seed, hashlib.sha256(seed).digest())
        super().__init__(suite, hashlib.sha256(seed + b"push").digest(), f"https://{name}.example/{name}", stage.clock)
        self.stage = stage
        self.offer = replace(stage["anna"].stage.description(stage["anna"]), fingerprint=seed)
        self.pushed: list[bytes] = []

    def text_of(self, **changes: Any) -> str:
        self.now = self.stage.clock
        return self.text(changes.pop("session", SESSION), changes.pop("offer", self.offer), **changes)

    def come(self, player: Player, session: bytes = SESSION) -> None:
        """The link that was offered comes up."""
        link = next(link for link in player.node.neighbors.links() if link.peer == self.suite.peer_id)
        theirs, ours = self.stage.fingerprint(player), self.offer.fingerprint
        player.give(ev.LinkConnected(link.id, theirs, ours))
        player.give(ev.MessageReceived(link.id, self.hello(session, player.id, ours, theirs)))


def link_to(player: Player, page: Page) -> LinkId:
    link = player.node.neighbors.current(page.suite.peer_id)
    assert link is not None
    return link.id


class Calling(Stage):
    """Members of a mesh, and pages that are none."""

    def __init__(self, *names: str) -> None:
        super().__init__(*(names or ("anna",)))
        self.mesh()
        self.pages: list[Page] = []
        self.statuses: Callable[[], int] = lambda: 201
        self.push_status = self._service

    @property
    def clock(self) -> Any:
        return self["anna"].now

    def page(self, name: str = "page") -> Page:
        page = Page(self, name)
        self.pages.append(page)
        return page

    def _service(self, push: cm.SendPush) -> int:
        for page in self.pages:
            if push.endpoint == page.endpoint:
                status = self.statuses()
                if status == 201:
                    page.pushed.append(page.suite.decrypt_push(page.seed, push.body))
                return status
        return 201


def linked(stage: Calling, name: str = "page") -> Page:
    """A page that has become a member."""
    anna, page = stage["anna"], stage.page(name)
    anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    page.open(page.pushed.pop())
    page.come(anna)
    anna.give(ev.MessageReceived(link_to(anna, page), encode_message(Records((page.record().encoded,)))))
    page.pushed.clear()
    return page


def known(stage: Calling, name: str = "page") -> Page:
    """A page that has become a member, and has no link any more."""
    anna, page = stage["anna"], linked(stage, name)
    anna.give(ev.LinkClosed(link_to(anna, page), "consent_expired"))
    stage.advance(150)  # between two calls of hers
    page.pushed.clear()
    return page
