"""The control API's answers as the daemon gives them, against the table that documents them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from meshd.config import Config
from meshd.control.backend import Caller
from meshd.control.encodings import encode_bytes
from meshd.control.methods import METHODS
from meshd.control.parameters import check_params, problem_in
from meshd.control.shapes import SHAPES
from meshd.control.watchers import Watcher
from meshd.core.commands import Command, DeliverMessage, Notify, Respond
from meshd.core.events import Event, Requested
from meshd.core.views import NodeView
from meshd.daemon.backend import DaemonBackend
from meshd.daemon.driver import Driver
from meshd.errors import Code, ControlError, LocalMisuse
from meshd.ids import LinkId, Now, text_of
from meshd.links.statistics import LinkStatistics

OWN, PEER, MESSAGE = bytes(range(32)), b"\x11" * 32, b"\x22" * 16
CALLER = Caller(1, 0, 0, "admin")
NOW = Now(5.0, 1_700_000_000.0)
UNTESTED = {"test": None, "tested_at": None, "round_trip": None}

MESSAGE_VIEW = {
    "message_id": MESSAGE,
    "peer_id": PEER,
    "name": "desk",
    "application": "message",
    "body": b"hello",
    "sent_at": 1_700_000_000.0,
    "received_at": 1_700_000_000.5,
}


OUTGOING_VIEW = {
    "message_id": MESSAGE,
    "peer_id": PEER,
    "name": "desk",
    "application": "message",
    "size": 5,
    "sent_at": 1_700_000_000.0,
    "expires_at": 1_700_600_000.0,
    "state": "deposited",
    "kept_by": ["nas"],
}


@dataclass(frozen=True)
class FixedView:
    status: dict[str, Any]
    peers: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    outbox: list[dict[str, Any]]
    introductions: list[dict[str, Any]]
    keys: dict[str, Any]
    whole: dict[str, Any]

    def graph(self) -> dict[str, Any]:
        return self.whole


VIEW = FixedView(
    status={
        "state": "member",
        "peer_id": OWN,
        "short_id": text_of(OWN)[:10],
        "name": "laptop",
        "mesh": {"id": PEER, "name": "home", "admin": True},
        "twin": None,
        "links": 1,
        "members": 2,
        "push": [
            {
                "service": "wss://push.example.org",
                "state": "connected",
                "detail": "",
                "channels": 2,
                "limits": [],
                **UNTESTED,
            }
        ],
        "inbox": {"unread": 2, "size": 10},
        "outbox": {"queued": 0, "deposited": 0},
        "kept": {"messages": 0, "size": 0},
        "warnings": [],
        "counters": {"links_opened": 1},
    },
    peers=[
        {
            "peer_id": PEER,
            "short_id": text_of(PEER)[:10],
            "name": "desk",
            "admin": False,
            "may_introduce": True,
            "link": "up",
            "link_id": 7,
            "path": {"kind": "host", "remote_kind": "host", "local": "192.0.2.1:4", "remote": "192.0.2.2:5"},
            "via": [],
            "reachable": True,
            "rtt": 0.01,
            "loss": 0.0,
            "since": 1_700_000_000.0,
            "seen": 1_700_000_000.0,
            "push_until": None,
            "version": "0.1.0",
            "last_error": None,
            "last_error_detail": None,
            "last_error_at": None,
        }
    ],
    messages=[MESSAGE_VIEW, {**MESSAGE_VIEW, "body": b""}],
    outbox=[OUTGOING_VIEW],
    introductions=[
        {
            "introduction_id": b"12345678",
            "label": None,
            "created_at": 1_700_000_000.0,
            "expires_at": 1_700_043_200.0,
            "uses_left": 1,
            "state": "open",
            "joined": [],
        }
    ],
    keys={
        "peer_id": OWN,
        "sealing_key": {"key": OWN, "made_at": None},
        "former_sealing_keys": [{"key": PEER, "retired_at": 1_700_000_000.0, "erased_at": 1_701_000_000.0}],
    },
    whole={
        "mesh_id": PEER,
        "mesh_name": "home",
        "time": 1_700_000_000.0,
        "members": [
            {
                "peer_id": OWN,
                "short_id": text_of(OWN)[:10],
                "name": "laptop",
                "state": "self",
                "hops": 0,
                "before": None,
                "since": None,
                "record_at": 1_700_000_000,
                "admin": True,
                "relays": True,
                "keeps": False,
                "version": None,
                "link": None,
            }
        ],
        "links": [[0, 1]],
        "claims": [],
    },
)


class Core:
    """Remembers requests and answers them with ``answer``."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.requests: list[Requested] = []

    def handle(self, event: Event, now: Now) -> list[Command]:
        if not isinstance(event, Requested):
            return []
        self.requests.append(event)
        return [Respond(event.request, self.answer)]

    def next_deadline(self) -> float | None:
        return None


def backend_for(
    core: Core, view: NodeView = VIEW, links: Mapping[LinkId, LinkStatistics] | None = None
) -> DaemonBackend:
    driver = Driver(core, clocks=lambda: NOW)
    counters = {"links_command_late": 3}
    return DaemonBackend(
        driver,
        lambda: view,
        OWN,
        Config(),
        "/etc/meshd/meshd.toml",
        counters=lambda: counters,
        links=lambda: links or {},
        clocks=lambda: NOW,
    )


async def call(backend: DaemonBackend, method: str, **params: Any) -> dict[str, Any]:
    return await backend.call(method, check_params(METHODS[method], params), CALLER)


READS = (
    "node.status",
    "node.version",
    "node.metrics",
    "peers.list",
    "mesh.graph",
    "messages.list",
    "messages.outbox",
    "introductions.list",
    "keys.show",
    "config.show",
)


@pytest.mark.parametrize("method", READS)
async def test_reading_needs_no_core_and_fits_the_table(method: str) -> None:
    core = Core({})
    result = json.loads(json.dumps(await call(backend_for(core), method)))
    assert problem_in(METHODS[method].result, result) == ""
    assert core.requests == []


async def test_peers_come_with_what_their_links_carry() -> None:
    found = LinkStatistics(
        kind_local="prflx",
        kind_remote="srflx",
        remote_address="198.51.100.7:9",
        round_trip_time=0.02,
        min_round_trip_time=math.inf,
        bytes_sent=5,
        buffered_size=7,
        congestion_window=9,
    )
    backend = backend_for(Core({}), links={LinkId(7): found, LinkId(8): LinkStatistics()})
    (peer,) = (await call(backend, "peers.list"))["peers"]
    assert problem_in(SHAPES["peer"], peer) == ""
    path = {"kind": "prflx", "remote_kind": "srflx", "local": "192.0.2.1:4", "remote": "198.51.100.7:9"}
    assert peer["path"] == path
    traffic = peer["traffic"]
    assert (traffic["rtt"], traffic["min_rtt"]) == (0.02, None)
    assert (traffic["sent_size"], traffic["buffered_size"], traffic["window_size"]) == (5, 7, 9)
    (without,) = (await call(backend_for(Core({})), "peers.list"))["peers"]
    assert without["traffic"] is None
    assert without["path"]["kind"] == "host"


async def test_values_are_encoded() -> None:
    backend = backend_for(Core({}))
    status = await call(backend, "node.status")
    assert status["peer_id"] == text_of(OWN)
    assert status["started_at"] == "2023-11-14T22:13:20.000Z"
    assert status["counters"] == {"links_opened": 1, "links_command_late": 3}
    listed = await call(backend, "messages.list", limit=1)
    assert [message["body"] for message in listed["messages"]] == ["aGVsbG8"]
    assert listed["unread"] == 2
    shown = await call(backend, "config.show")
    assert shown["values"]["mesh"]["max_full_mesh"] == 16
    assert shown["file"] == "/etc/meshd/meshd.toml"


async def test_changes_go_to_the_core_in_its_own_values() -> None:
    answer = {"message_id": MESSAGE, "peer_id": PEER, "name": "desk", "state": "queued", "elapsed": 0.1, "kept_by": []}
    core = Core(answer)
    sent = await call(backend_for(core), "messages.send", peer="desk", body=encode_bytes(b"hello"), wait=False)
    assert core.requests[0].method == "messages.send"
    params = {"peer": "desk", "body": b"hello", "application": "message", "wait": False, "until": "acknowledged"}
    assert core.requests[0].params == params | {"timeout": 10.0}
    assert sent["message_id"] == text_of(MESSAGE)
    core.answer = {"removed": 1}
    await call(backend_for(core), "messages.read", message_ids=[text_of(MESSAGE)])
    assert core.requests[1].params == {"message_ids": [MESSAGE]}


async def test_incomplete_result_of_the_core_is_a_bug() -> None:
    with pytest.raises(LocalMisuse, match="removed"):
        await call(backend_for(Core({})), "messages.read", message_ids=[])


async def taken(watcher: Watcher, count: int) -> list[tuple[str, dict[str, Any]]]:
    with trio.fail_after(5):
        lines = [json.loads(await watcher.take() or b"{}") for _ in range(count)]
    return [(line["method"], line["params"]) for line in lines]


async def test_events_begin_with_a_snapshot() -> None:
    backend, watcher = backend_for(Core({})), Watcher("events.subscribe")
    assert backend.watch("events.subscribe", {}, CALLER, watcher) == {}
    backend.observe(Notify("link_up", {"peer": PEER, "link": 3, "secret": b"x"}), NOW)
    backend.observe(DeliverMessage(MESSAGE_VIEW), NOW)
    notices = await taken(watcher, 2)
    table = {notice.name: notice for notice in METHODS["events.subscribe"].notices}
    assert [problem_in(table[name].fields, fields) for name, fields in notices] == ["", ""]
    assert [name for name, _ in notices] == ["snapshot", "event"]
    assert notices[1][1]["fields"]["peer"] == text_of(PEER)
    assert notices[1][1]["name"] == "link_up"
    backend.unwatch(watcher)
    backend.observe(Notify("link_down", {}), NOW)
    with trio.move_on_after(0):
        assert await watcher.take() is None


async def test_messages_begin_with_the_unread_ones() -> None:
    backend, watcher = backend_for(Core({})), Watcher("messages.subscribe")
    assert backend.watch("messages.subscribe", {}, CALLER, watcher) == {"unread": 2}
    backend.observe(Notify("link_up", {}), NOW)
    backend.observe(DeliverMessage({**MESSAGE_VIEW, "body": b"new"}), NOW)
    notices = await taken(watcher, 3)
    (table,) = METHODS["messages.subscribe"].notices
    assert [problem_in(table.fields, fields) for _, fields in notices] == [""] * 3
    assert notices[2][1]["message"]["body"] == encode_bytes(b"new")


def test_what_is_no_subscription_cannot_be_watched() -> None:
    with pytest.raises(ControlError) as caught:
        backend_for(Core({})).watch("node.status", {}, CALLER, Watcher("node.status"))
    assert caught.value.code is Code.METHOD_NOT_FOUND
