"""Whom links may ask, within the mesh, how this machine is seen from outside (STUN): members, own push services, and
who stands in a token. And that others may ask us, where we have a public address.
"""

from __future__ import annotations

import hashlib

from meshd.config import Config
from meshd.core.commands import UseStunServers
from meshd.core.context import Context
from meshd.core.events import AddressesChanged
from meshd.core.membership.membership import Membership
from meshd.core.overlay.routing import Routing
from meshd.ids import PeerId
from meshd.push_services import parse_service
from meshd.special_addresses import is_public
from meshd.wire.introduction import MAX_STUN_SERVERS
from meshd.wire.record import MAX_ANSWERING

# Policy
MAX_SERVERS = 16  # asked in all
MAX_ASKED = 4  # of members; two tell what kind of router we are behind, and two more may be away


class StunServers:
    """``host:port`` each, as in tokens. Which of them are asked is up to ``links.ice``."""

    __slots__ = ("_answering", "_asked", "_ctx", "_membership", "_of_token", "_routing")

    def __init__(self, ctx: Context, membership: Membership, routing: Routing) -> None:
        self._ctx = ctx
        self._membership = membership
        self._routing = routing
        self._answering: tuple[str, ...] = ()
        self._of_token: tuple[str, ...] | None = None  # of the join under way
        self._asked: tuple[str, ...] | None = None

    def on_addresses(self, event: AddressesChanged) -> None:
        """Our own addresses are these now: say so to whom it helps."""
        self._answering = event.answering[:MAX_ANSWERING]
        self._membership.offers_changed(answering=self._answering)

    def in_token(self) -> tuple[str, ...]:
        """Whom the bearer of a token of ours may ask."""
        found = (*self._answering, *_of_push_services(self._ctx.config), *self._of_members())
        return tuple(dict.fromkeys(found))[:MAX_STUN_SERVERS]

    def join_begins(self, servers: tuple[str, ...]) -> None:
        """We bear that token."""
        self._of_token = servers
        self.update()

    def join_ended(self) -> None:
        """It has served."""
        self._of_token = None
        self.update()

    def update(self) -> None:
        """Tell the links, if it is something else than before."""
        asked = self._of_token or ()
        if self._of_token is not None or self._membership.row is not None:
            asked = (*asked, *_of_push_services(self._ctx.config))
        if self._membership.row is not None:
            asked = (*asked, *self._of_members())
        asked = tuple(dict.fromkeys(asked))[:MAX_SERVERS]
        if asked != self._asked:
            self._asked = asked
            self._ctx.do(UseStunServers(asked))

    def _of_members(self) -> tuple[str, ...]:
        """Of those who say that they answer, first those who are there; the same few for a while, each node others."""
        own = self._ctx.own_id
        answering = [r for r in self._membership if r.answering and r.peer != own and r.expires > self._ctx.now.unix]
        away = {r.peer for r in answering if not self._routing.in_reach(r.peer)}
        answering.sort(key=lambda record: (record.peer in away, _share(own, record.peer)))
        found = dict.fromkeys(server for record in answering for server in record.answering if self._is_public(server))
        return tuple(found)[:MAX_ASKED]

    def _is_public(self, server: str) -> bool:
        """A record must not make us knock in our own network."""
        host = server.rpartition(":")[0].strip("[]")
        return is_public(host, allow_documentation=self._ctx.config.links.lab_addresses)


def _share(asker: PeerId, answerer: PeerId) -> bytes:
    return hashlib.sha256(asker + answerer).digest()


def _of_push_services(config: Config) -> tuple[str, ...]:
    return tuple(server for service in config.push.services if (server := parse_service(service).stun_server))
