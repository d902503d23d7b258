"""Every container of a node, and the named limit that it stays within."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from meshd.config import Config
from meshd.core import peering
from meshd.core.delivery import (
    circuits,
    deposits,
    inbox,
    keeping,
    outbox,
    pinging,
    post,
    relayed_streams,
    replay,
    stream_book,
    stream_paths,
    tracing,
)
from meshd.core.joining import assisting, calls, introductions, pasting
from meshd.core.membership import first_seen, promises, revocations, sealing_keys
from meshd.core.membership.admissions import MAX_ASKED
from meshd.core.node import Node
from meshd.core.overlay import broadcast, link_states, relay, routing, seen, sparse
from meshd.core.pushing import audit, behalf, grants, kept_grants, pushed, pushing, self_test
from meshd.core.pushing import budget as push_budget
from meshd.core.pushing import standing as push_standing
from meshd.core.pushing.channels import MAX_CHANNELS
from meshd.core.signaling import sessions, stun_servers
from meshd.wire.introduction import MAX_STUN_SERVERS
from meshd.wire.parts import MAX_SUBSCRIPTIONS
from meshd.wire.record import MAX_ANSWERING

# Policy
MAX_KINDS = 16  # of what is broadcast
MAX_COUNTERS = 200  # names of counters are literals of the source
TIMERS_PER_MEMBER = 6  # dial, hello, session, resend, deliver, push …
TIMERS_BESIDE = 40
MAX_OUTSTANDING = 4000  # writes that the disk owes: it is behind by seconds at most
_CONTAINERS = (dict, list, set, tuple, deque)
_NOT_PARTS = {"_join", "row"}  # values, bounded by their layout

Limit = Callable[[Config], int]


def _members(config: Config) -> int:
    return config.mesh.max_members


def _links(config: Config) -> int:
    return config.links.max_links


def _holders(config: Config) -> int:
    """With a channel of its own each; where they share one, as many as there are members and tokens."""
    return MAX_CHANNELS + config.mesh.max_members + introductions.MAX_INTRODUCTIONS


def _fixed(limit: int) -> Limit:
    return lambda config: limit


LIMITS: dict[str, Limit] = {
    "Context._commands": _fixed(0),  # taken at the end of every event
    "Context.facts": _fixed(0),
    "Context._outstanding": _fixed(MAX_OUTSTANDING),
    "Context._unwritten": _fixed(MAX_OUTSTANDING),
    "Context.counters": _fixed(MAX_COUNTERS),
    "Timers._deadlines": lambda config: TIMERS_BESIDE + TIMERS_PER_MEMBER * config.mesh.max_members,
    "Timers._heap": lambda config: 64 + 2 * (TIMERS_BESIDE + TIMERS_PER_MEMBER * config.mesh.max_members),
    "Boots._boots": _members,
    "Expected._rows": _members,
    "Membership._offers": _fixed(2),
    "Membership._counted": _fixed(2),
    "LinkStates._early": _fixed(link_states.MAX_EARLY),
    "LinkStates._states": _members,
    "Broadcast._lazy": _links,
    "Broadcast._missing": _fixed(broadcast.MAX_MISSING),
    "Broadcast._outboxes": _links,
    "Broadcast._takers": _fixed(MAX_KINDS),
    "Seen._new": _fixed(seen.MAX_SEEN),
    "Seen._old": _fixed(seen.MAX_SEEN),
    "Membership._prefixes": _members,
    "Membership._records": _members,
    "Promises._promised": _fixed(promises.MAX_PROMISED),
    "FirstSeen._times": lambda config: first_seen.MAX_OF_ONE * config.mesh.max_members,
    "Revocations._digests": _fixed(2 * revocations.MAX_REVOCATIONS),
    "Revocations._held": _fixed(2 * revocations.MAX_REVOCATIONS),
    "Administration._waiting": _members,
    "RevocationOutbox._owed": _links,
    "Neighbors._current": _links,
    "Neighbors._links": _links,
    "Resuming._doubted": _members,
    "Routing._cut_off": _members,
    "Routing._distance": _members,
    "Routing._learned": _fixed(routing.MAX_LEARNED),
    "Routing._paths": _fixed(routing.MAX_SINGLE_SEARCHES),
    "Routing._previous": _members,
    "Relay._traces": _fixed(relay.MAX_TRACES),
    "Audit._entries": _fixed(audit.MAX_ENTRIES),
    "Audit._of": _fixed(audit.MAX_ENTRIES),
    "Audit._used": _fixed(audit.MAX_USERS),
    "Channels._agents": _fixed(2 * MAX_SUBSCRIPTIONS),
    "Channels._current": _fixed(MAX_CHANNELS),
    "Channels._ready": _fixed(MAX_CHANNELS),
    "Calls._waiting": _fixed(calls.MAX_CALLS),
    "Channels._rows": _fixed(MAX_CHANNELS),
    "Channels._substitutes": _fixed(MAX_CHANNELS),
    "Asking._asked": _fixed(behalf.MAX_ASKED),
    "Calling._resting": _members,
    "Calling._since": _members,
    "GrantAnswers._dead": _members,
    "Keepers._able": _fixed(2),
    "KeptGrants._rows": _fixed(kept_grants.MAX_KEPT),
    "KeptGrants._told": _fixed(kept_grants.MAX_KEPT),
    "Serving._served": _fixed(behalf.MAX_SERVED),
    "Grants._refused": _fixed(grants.MAX_REFUSED),
    "Grants._rows": _members,
    "PushBudget._answered": _fixed(push_budget.MAX_ACCOUNTS),
    "PushBudget._answers": _fixed(push_budget.MAX_ACCOUNTS),
    "PushBudget._last": _fixed(push_budget.MAX_ACCOUNTS),
    "Standings._endpoints": _fixed(push_standing.MAX_ENDPOINTS),
    "Standings._origins": _fixed(push_standing.MAX_ORIGINS),
    "Channels.services": _fixed(MAX_SUBSCRIPTIONS),
    "Holders._kept": _holders,
    "Holders._rows": _holders,
    "SelfTest._lost": _fixed(2 * MAX_SUBSCRIPTIONS),
    "SelfTest._probes": _fixed(self_test.MAX_PROBES + 2 * MAX_SUBSCRIPTIONS),
    "SelfTest._waiting": _fixed(self_test.MAX_WAITING),
    "SelfTest.results": _fixed(2 * MAX_SUBSCRIPTIONS),
    "SubscriptionChange._reported": _members,
    "SubscriptionChange._started_over": _fixed(2 * MAX_SUBSCRIPTIONS),
    "Granting._deposited": _members,
    "Granting._pushes": _members,
    "Granting._tries": _members,
    "Pushing._by_name": _fixed(pushing.MAX_PUSHES),
    "Pushing._in_flight": _fixed(pushing.MAX_PUSHES),
    "ReplayMemory._rows": _fixed(replay.MAX_SESSIONS),
    "ReplayMemory._sessions": _fixed(replay.MAX_SESSIONS),
    "Post._sequences": _fixed(post.MAX_COUNTED_SESSIONS),
    "Sessions._sessions": _fixed(sessions.MAX_SESSIONS),
    "Sparse._chosen": _links,
    "Sparse._dialed": _fixed(sessions.MAX_SESSIONS),
    "Sparse._everybody": _fixed(2),
    "Sparse._refused": _fixed(sparse.MAX_REFUSED),
    "Topology._failures": _members,
    "Topology._out_of_reach": _members,
    "Topology._pushes": _members,
    "Topology._troubles": _members,
    "Outlook.warnings": _fixed(8),
    "StunServers._answering": _fixed(MAX_ANSWERING),
    "StunServers._asked": _fixed(stun_servers.MAX_SERVERS),
    "StunServers._of_token": _fixed(MAX_STUN_SERVERS),
    "Arrivals._arrivals": _fixed(sessions.MAX_SESSIONS),
    "Bearers._clocks": _fixed(introductions.MAX_INTRODUCTIONS),
    "Pasting._accepted": _fixed(pasting.MAX_OPEN),
    "Pasting._asked": _fixed(pasting.MAX_OPEN),
    "Assisting._asked": _fixed(assisting.MAX_ASSISTED),
    "Introductions._mints": _fixed(introductions.MAX_INTRODUCTIONS),
    "SealingKeys._rows": _fixed(1 + sealing_keys.MAX_FORMER_KEYS),
    "_Rotation.rows": _fixed(2),
    "_Rotation.answer": _fixed(1),
    "Introductions._rows": _fixed(introductions.MAX_INTRODUCTIONS),
    "Admissions._asked": _fixed(MAX_ASKED),
    "Admissions._naming": _members,
    "Inbox._arriving": _fixed(inbox.MAX_RECEIVED),
    "Inbox._inbox": lambda config: config.mesh.max_inbox_messages,
    "Outbox._failed": _members,
    "Outbox._items": _fixed(outbox.MAX_OUTBOX_MESSAGES),
    "Inbox._received": _fixed(inbox.MAX_RECEIVED),
    "Inbox._received_from": _fixed(inbox.MAX_RECEIVED),
    "Outbox._tries": _members,
    "Deposits._asked": _members,
    "Deposits._refused": _fixed(deposits.MAX_REFUSED),
    "Keeping._handing": _members,
    "KeptRows._for": _fixed(keeping.MAX_KEPT),
    "KeptRows._from": _fixed(keeping.MAX_KEPT),
    "KeptRows._rows": _fixed(keeping.MAX_KEPT),
    "KeptRows._to": _fixed(keeping.MAX_KEPT),
    "Pinging._pings": _fixed(pinging.MAX_PINGS),
    "Tracing._traces": _fixed(tracing.MAX_TRACES),
    "StreamBook._acceptors": _fixed(stream_book.MAX_ACCEPTORS),
    "StreamBook._outcomes": _fixed(stream_book.MAX_OUTCOMES),
    "StreamBook._streams": _fixed(stream_book.MAX_STREAMS),
    "Streams._numbers": _links,
    "Streams._streams": _fixed(stream_book.MAX_STREAMS),
    "Circuits._ends": _fixed(2 * circuits.MAX_RELAYED_CIRCUITS + stream_book.MAX_STREAMS),
    "Circuits._numbers": _links,
    "Circuits._relayed": _fixed(circuits.MAX_RELAYED_CIRCUITS),
    "RelayedStreams._ended": _fixed(relayed_streams.MAX_ENDED),
    "RelayedStreams._streams": _fixed(stream_book.MAX_STREAMS),
    "StreamPaths._tags": _fixed(stream_paths.MAX_TAGS_AHEAD * stream_book.MAX_STREAMS),
    "Peering._strangers": _fixed(peering.MAX_STRANGERS),
    "Pushed._held": _fixed(pushed.MAX_HELD),
}


def containers(node: Node) -> Iterator[tuple[str, int]]:
    """Every container that a machine of that node holds, or a part of one: its name, how much is in it."""
    seen: set[int] = set()
    waiting = list(vars(node).values())
    for machine in waiting:
        if id(machine) in seen:
            continue
        seen.add(id(machine))
        for cls in type(machine).__mro__:
            for slot in getattr(cls, "__slots__", ()):
                value: Any = getattr(machine, slot, None)
                if isinstance(value, _CONTAINERS):
                    yield f"{cls.__name__}.{slot}", len(value)
                elif type(value).__module__.startswith("meshd.core.") and slot not in _NOT_PARTS:
                    waiting.append(value)
