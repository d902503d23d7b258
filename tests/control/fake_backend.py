"""A daemon without a mesh behind it: answers every method of the table. Also a program: ``fake_backend.py SOCKET``."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Any

import trio
import trio.testing
from fake_administration import Administration
from fake_graph import graph, trace
from fake_values import (
    DESK_ID,
    EVIL_ID,
    EVIL_TEXT,
    MESH_ID,
    OWN_ID,
    STARTED,
    TOKEN,
    TROUBLE,
    find,
    message,
    outgoing,
    peer,
)

from meshd.control.backend import Caller
from meshd.control.encodings import decode_bytes, encode_time
from meshd.control.listeners import close_listeners, open_listeners
from meshd.control.passing import Passed
from meshd.control.server import serve
from meshd.control.watchers import Watcher
from meshd.errors import Code, ControlError
from meshd.ids import short, text_of


class FakeBackend(Administration):
    def __init__(self, version: str = "0.1.0") -> None:
        self.version = version
        self.state = "member"
        self.calls: list[tuple[str, dict[str, Any], Caller]] = []
        self.counters = {"cancelled": 0, "watched": 0}
        self.inbox = [message(1, b"hello"), message(2, EVIL_TEXT.encode(), "d\x1b[2Jesk")]
        self.outbox = [outgoing("d\x1b[2Jesk", "deposited", "n\x1b[31mas")]
        self.kept = {"messages": 0, "size": 0}
        self.away = False
        self.batch = 1_000
        self.watchers: list[Watcher] = []
        self.changed = trio.Event()
        self.stream_reason = "done"
        self.stream_size = 0
        self.graph = graph()
        self.outcome = "arrived"
        self.peers = [peer(DESK_ID, "desk"), peer(EVIL_ID, "x\x1b[31m\u202ey", "none", **TROUBLE)]

    def identity(self) -> tuple[str, str]:
        return self.version, text_of(OWN_ID)

    async def call(
        self, method: str, params: dict[str, Any], caller: Caller, passed: Passed | None = None
    ) -> dict[str, Any]:
        self.calls.append((method, params, caller))
        self._change()
        answer_to = getattr(self, "_" + method.replace(".", "_"))
        answer: dict[str, Any] = await (answer_to(params) if passed is None else answer_to(params, passed))
        return answer

    def watch(self, method: str, params: dict[str, Any], caller: Caller, watcher: Watcher) -> dict[str, Any]:
        self.counters["watched"] += 1
        self.watchers.append(watcher)
        self._change()
        if method == "messages.subscribe":
            for entry in self.inbox:
                watcher.post("message", {"message": entry})
            return {"unread": len(self.inbox)}
        watcher.post("snapshot", {"status": self._status(), "peers": self.peers})
        if self.state == "eventful":
            watcher.post("event", {"name": "link_up", "time": encode_time(STARTED), "fields": {"peer": "d\x1b[1mesk"}})
        return {}

    def unwatch(self, watcher: Watcher) -> None:
        self.watchers.remove(watcher)
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, condition: Any) -> None:
        with trio.fail_after(5):
            while not condition():
                await self.changed.wait()

    def _status(self) -> dict[str, Any]:
        away = self.state in ("no_mesh", "revoked")
        return {
            "state": self.state if away else "member",
            "version": self.version,
            "protocol": 1,
            "peer_id": text_of(OWN_ID),
            "short_id": short(OWN_ID),
            "name": None if away else "laptop",
            "mesh": None if away else {"id": text_of(MESH_ID), "name": "home", "admin": True},
            "started_at": encode_time(STARTED),
            "uptime": 93_784.5,
            "twin": None,
            "links": 1,
            "members": 3,
            "push": [
                {
                    "service": "http://127.0.0.1:1",
                    "state": "down",
                    "detail": "re\x1b[1mfused",
                    "channels": 2,
                    "limits": ["ignores TTL"],
                    "test": "lost",
                    "tested_at": encode_time(STARTED),
                    "round_trip": None,
                }
            ],
            "inbox": {"unread": len(self.inbox), "size": 100},
            "outbox": {"queued": len(self.outbox), "deposited": 0},
            "kept": self.kept,
            "warnings": ["No push service can be reached."],
            "counters": dict(self.counters),
        }

    async def _node_status(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._status()

    async def _node_version(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"version": self.version, "protocol": 1, "peer_id": text_of(OWN_ID)}

    async def _node_metrics(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"text": "# HELP meshd_links Links that are up.\n# TYPE meshd_links gauge\nmeshd_links 1\n"}

    async def _node_rename(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["name"] == "crash":
            raise RuntimeError("secret things")
        if params["name"] == "nan":
            return {"peer_id": text_of(OWN_ID), "name": float("nan")}
        return {"peer_id": text_of(OWN_ID), "name": params["name"]}

    async def _mesh_found(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["mesh_name"] == "taken":
            raise ControlError(Code.IN_MESH)
        decode_bytes(params["mesh_key"])
        identity = {"peer_id": text_of(OWN_ID), "name": params["name"] or "laptop"}
        return {"mesh_id": text_of(MESH_ID), "mesh_name": params["mesh_name"], **identity}

    async def _mesh_join(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["token"].startswith("bad"):
            raise ControlError(Code.TOKEN_TRUNCATED)
        for watcher in self.watchers:
            watcher.post("event", {"name": "push_sent", "time": encode_time(STARTED), "fields": {"size": 1200}})
        await trio.testing.wait_all_tasks_blocked()
        return {
            "mesh_id": text_of(MESH_ID),
            "mesh_name": "home",
            "peer_id": text_of(OWN_ID),
            "name": params["name"] or "laptop",
            "introducer": {"peer_id": text_of(DESK_ID), "name": "desk"},
            "elapsed": 0.187,
            "pushes_sent": 1,
            "pushes_received": 1,
            "warnings": ["Behind a symmetric NAT."],
        }

    async def _mesh_leave(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"mesh_id": text_of(MESH_ID)}

    async def _peers_list(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"peers": self.peers}

    async def _peers_ping(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["peer"] == "slow":
            try:
                await trio.sleep_forever()
            finally:
                self.counters["cancelled"] += 1
                self._change()
        peer_id, name = find(params["peer"])
        return {"peer_id": text_of(peer_id), "name": name, "rtt": 0.0042, "via": ["relay1"]}

    async def _mesh_graph(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.state == "no_mesh":
            raise ControlError(Code.NO_MESH)
        return self.graph

    async def _peers_trace(self, params: dict[str, Any]) -> dict[str, Any]:
        peer_id, name = find(params["peer"])
        return trace(peer_id, name, self.outcome)

    async def _messages_send(self, params: dict[str, Any]) -> dict[str, Any]:
        peer_id, name = find(params["peer"])
        state = params["until"] if params["until"] == "queued" or self.away else "acknowledged"
        sent = {"message_id": text_of(bytes(16)), "peer_id": text_of(peer_id), "name": name}
        return sent | {
            "state": state,
            "elapsed": 0.031,
            "kept_by": ["attic", "n\x1b[31mas"] if state == "deposited" else [],
        }

    async def _messages_outbox(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"messages": self.outbox}

    async def _messages_list(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"messages": self.inbox[: min(params["limit"], self.batch)], "unread": len(self.inbox)}

    async def _messages_read(self, params: dict[str, Any]) -> dict[str, Any]:
        before = len(self.inbox)
        self.inbox = [entry for entry in self.inbox if entry["message_id"] not in params["message_ids"]]
        return {"removed": before - len(self.inbox)}

    def _stream(self, application: str) -> dict[str, Any]:
        return {"stream": 1, "peer_id": text_of(DESK_ID), "name": "d\x1b[1mesk", "application": application}

    async def _streams_open(self, params: dict[str, Any], passed: Passed) -> dict[str, Any]:
        """The peer is as its application says: an ``echo``, one that is ``rude``, or nobody."""
        find(params["peer"])
        application = params["application"]
        if application == "nothing":
            raise ControlError(Code.REFUSED, "Nobody accepts it.")
        self.stream_reason = "closed_by_peer" if application == "rude" else "done"
        self.stream_size = 0
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=passed.take())))
        trio.lowlevel.spawn_system_task(self._echo, stream, application)
        return self._stream(application)

    async def _streams_accept(self, params: dict[str, Any], passed: Passed) -> dict[str, Any]:
        if params["application"] == "never":
            await trio.sleep_forever()
        opened = await self._streams_open({**params, "peer": "desk"}, passed)
        return opened | {"parameters": ""}

    async def _echo(self, stream: trio.SocketStream, application: str) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await self._play(stream, application)

    async def _play(self, stream: trio.SocketStream, application: str) -> None:
        if application != "rude":
            async for piece in stream:
                self.stream_size += len(piece)
                await stream.send_all(piece)

    async def _streams_wait(self, params: dict[str, Any]) -> dict[str, Any]:
        sizes = {"sent_size": self.stream_size, "received_size": self.stream_size}
        return self._stream("echo") | {"reason": self.stream_reason, **sizes, "elapsed": 0.5}

    async def _introductions_mint(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "token": TOKEN,
            "introduction_id": text_of(bytes(8)),
            "expires_at": encode_time(STARTED + params["lifetime"]),
            "uses": params["uses"],
            "warnings": ["No IPv6."],
        }

    async def _links_offer(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._texts("offer") | ({"sdp": "", "name": ""} if params["token"] else {})

    async def _links_answer(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["text"] and "late" in params["text"]:
            raise ControlError(Code.PASTE_EXPIRED)
        return self._texts("answer")

    def _texts(self, kind: str) -> dict[str, Any]:
        return {
            "text": f"meshd-{kind}1_" + "abcdefghij" * 40,
            "sdp": "v=0\r\ns=-\r\n",
            "peer_id": text_of(DESK_ID),
            "name": "desk\x1b[1m",
            "expires_at": encode_time(STARTED + 600),
        }

    async def _calls_answer(self, params: dict[str, Any]) -> dict[str, Any]:
        if "used" in params["text"]:
            raise ControlError(Code.CALL_USED)
        return {
            "peer_id": text_of(DESK_ID),
            "name": params["name"] or "phone\x1b[1m",
            "mesh_name": "home",
            "admits": "member" not in params["text"],
            "services": ["https://push.example"],
            "linked": not params["preview"],
            "elapsed": 0.0 if params["preview"] else 1.5,
        }

    async def _links_accept(self, params: dict[str, Any]) -> dict[str, Any]:
        joined = bool(params["text"]) and "join" in params["text"]
        result = {"peer_id": text_of(DESK_ID), "name": "desk", "mesh_name": "home", "elapsed": 1.5}
        return result | {"joined": joined}

    async def _introductions_list(self, params: dict[str, Any]) -> dict[str, Any]:
        entry = {
            "introduction_id": text_of(bytes(8)),
            "label": "for \x1b[1mhim",
            "created_at": encode_time(STARTED),
            "expires_at": encode_time(STARTED + 60),
            "uses_left": 1,
            "state": "open",
            "joined": ["desk"],
        }
        return {"introductions": [entry]}

    async def _introductions_revoke(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["introduction_id"] == "nothing":
            raise ControlError(Code.TOKEN_UNKNOWN)
        return {"introduction_id": text_of(bytes(8)), "state": "revoked"}

    async def _net_check(self, params: dict[str, Any]) -> dict[str, Any]:
        network = {
            "udp": "open",
            "local": "192.168.1.2",
            "external": "203.0.113.7:40000",
            "mapping": "endpoint_independent",
            "filtering": "address_and_port_dependent",
            "hairpin": False,
        }
        server = {
            "server": "stun.example.org:3478",
            "source": "configured",
            "family": "ipv4",
            "address": "198.51.100.9:3478",
            "external": "203.0.113.7:40000",
            "rtt": 0.0123,
            "error": None,
            "two_addresses": False,
        }
        return {
            "ipv4": network,
            "ipv6": {**network, "udp": "no_address", "local": None, "external": None, "hairpin": None},
            "port_mapping": [
                {
                    "gateway": "192.168.1.1",
                    "method": "pcp",
                    "external": "203.0.113.7:4242",
                    "trouble": None,
                    "answers": {"pcp": "yes", "igd": "silent"},
                    "says": "The router at 192.168.1.1 lets UDP in at 203.0.113.7:4242 (PCP).",
                }
            ],
            "servers": [
                server,
                {**server, "server": "\x1b[2Jgone", "external": None, "rtt": None, "error": "silent"},
            ],
            "verdict": "direct",
            "expectation": "Two such nodes connect directly.",
            "unknown": ["Filtering cannot be known."],
        }

    async def _config_show(self, params: dict[str, Any]) -> dict[str, Any]:
        values = {"control": {"socket": "", "admin_group": "meshd"}, "links": {"allow_loopback": True, "stun": []}}
        return {"file": "/etc/meshd/meshd.toml", "values": values}


async def _main(path: str) -> None:
    backend = FakeBackend(os.environ.get("FAKE_VERSION", "0.1.0"))
    backend.state = os.environ.get("FAKE_STATE", "member")
    listeners = await open_listeners(path)
    with trio.open_signal_receiver(15) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, listeners, backend)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            async for _ in signals:
                break
            await close_listeners(listeners, path)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])
