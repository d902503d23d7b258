"""The server over real Unix sockets: what clients do, and what they do wrong."""

import json
import os
import socket
import struct
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from fake_backend import FakeBackend
from fake_values import message

from meshd.control import connection, jsonrpc, server, watchers
from meshd.control.access import Access, permission_of
from meshd.control.backend import Caller
from meshd.control.listeners import open_listeners
from meshd.control.methods import METHODS
from meshd.control.parameters import problem_in


class Client:
    """Speaks lines; waits at most five seconds for each."""

    def __init__(self, stream):
        self.stream = stream
        self._reader = jsonrpc.LineReader(jsonrpc.MAX_ANSWER_SIZE)
        self._items = []

    async def send(self, data):
        with trio.fail_after(5):
            await self.stream.send_all(data)

    async def item(self):
        with trio.fail_after(5):
            while not self._items:
                data = await self.stream.receive_some(1 << 16)
                if not data:
                    return None
                self._items = self._reader.feed(data)
        return self._items.pop(0)

    async def call(self, method, key=1, **params):
        await self.send(jsonrpc.encode_request(key, method, params))
        return await self.item()


@asynccontextmanager
async def serving(tmp_path, access=None):
    backend = FakeBackend()
    path = str(tmp_path / "control.sock")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, await open_listeners(path), backend, access or Access())
        yield backend, path
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(path):
    async with await trio.open_unix_socket(path) as stream:
        client = Client(stream)
        hello = await client.item()
        assert hello.method == "hello"
        assert hello.params["protocol"] == 1
        yield client


EXAMPLES = [method for method in METHODS.values() if not method.notices]


@pytest.mark.parametrize("method", EXAMPLES, ids=lambda method: method.name)
async def test_every_method_answers_as_the_table_says(tmp_path, method):
    params = {**method.example}
    if "peer" in params:
        params["peer"] = "desk"
    async with serving(tmp_path) as (backend, path), connected(path) as client:
        if method.descriptor:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                line = jsonrpc.encode_request("k", method.name, params)
                rights = struct.pack("i", theirs.fileno())
                await client.stream.socket.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                answer = await client.item()
        else:
            answer = await client.call(method.name, key="k", **params)
        assert isinstance(answer, jsonrpc.Answer)
        assert answer.key == "k"
        assert problem_in(method.result, answer.result) == ""
        name, given, caller = backend.calls[0]
        assert name == method.name
        assert set(given) == {param.name for param in method.params}
        assert caller == Caller(os.getpid(), os.getuid(), os.getgid(), "admin")


async def test_errors_carry_code_symbol_and_exit_status(tmp_path):
    async with serving(tmp_path) as (_, path), connected(path) as client:
        failure = await client.call("peers.ping", peer="desc")
        assert failure.code == -32004
        assert failure.data == {"symbol": "peer_unknown", "detail": "'desc'.", "exit_status": 1}
        assert (await client.call("peer.ping", key=9)).data["symbol"] == "method_not_found"
        assert (await client.call("peers.ping")).data["symbol"] == "invalid_params"


async def test_a_bug_in_the_daemon_is_an_answer_without_its_text(tmp_path, capsys):
    async with serving(tmp_path) as (_, path), connected(path) as client:
        for name in ("crash", "nan"):
            failure = await client.call("node.rename", name=name)
            assert failure.data["symbol"] == "internal_error"
        assert isinstance(await client.call("node.version"), jsonrpc.Answer)
    logged = capsys.readouterr().out
    assert "RuntimeError" in logged
    assert "secret things" not in logged


GARBAGE = [b"\x00\xff\x1b\n", b"{\n", b"[1,2]\n", b"[" * 5_000 + b"\n", b'{"jsonrpc":"2.0","method":7,"id":1}\n']


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_answered_and_survived(tmp_path, garbage):
    async with serving(tmp_path) as (_, path), connected(path) as client:
        await client.send(garbage)
        failure = await client.item()
        assert failure.data["exit_status"] == 2
        assert isinstance(await client.call("node.version"), jsonrpc.Answer)


async def test_a_line_of_ten_megabytes_costs_only_itself(tmp_path):
    async with serving(tmp_path) as (_, path), connected(path) as client:
        await client.send(b"x" * 10_000_000 + b"\n")
        failure = await client.item()
        assert failure.data["symbol"] == "too_large"
        assert isinstance(await client.call("node.version"), jsonrpc.Answer)


async def test_notifications_and_answers_from_clients_are_ignored(tmp_path):
    async with serving(tmp_path) as (backend, path), connected(path) as client:
        await client.send(jsonrpc.encode_notification("mesh.leave", {}))
        await client.send(jsonrpc.encode_answer(1, {}))
        assert (await client.call("node.version", key=2)).key == 2
        assert [name for name, _, _ in backend.calls] == ["node.version"]


async def test_requests_run_side_by_side_up_to_a_limit(tmp_path):
    async with serving(tmp_path) as (_, path), connected(path) as client:
        for key in range(connection.MAX_REQUESTS_IN_FLIGHT):
            await client.send(jsonrpc.encode_request(key, "peers.ping", {"peer": "slow"}))
        failure = await client.call("node.version", key="more")
        assert (failure.key, failure.data["symbol"]) == ("more", "busy")


async def test_a_client_that_disconnects_cancels_its_calls(tmp_path):
    async with serving(tmp_path) as (backend, path):
        async with connected(path) as client:
            for key in range(2):
                await client.send(jsonrpc.encode_request(key, "peers.ping", {"peer": "slow"}))
            await backend.until(lambda: len(backend.calls) == 2)
        await backend.until(lambda: backend.counters["cancelled"] == 2)


async def test_a_reset_in_the_middle_of_everything_harms_nobody_else(tmp_path):
    async with serving(tmp_path) as (backend, path), connected(path) as other:
        for data in (b'{"half', jsonrpc.encode_request(1, "events.subscribe", {}) * 3, b"\n" * 100):
            raw = socket.socket(socket.AF_UNIX)
            raw.connect(path)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.send(data)
            raw.close()
        assert isinstance(await other.call("node.version"), jsonrpc.Answer)
        await backend.until(lambda: not backend.watchers)


async def test_a_client_that_only_stops_sending_still_gets_its_answer(tmp_path):
    async with serving(tmp_path) as (_, path), connected(path) as client:
        await client.send(jsonrpc.encode_request(1, "node.version", {})[:-1])  # as printf without a newline
        await client.stream.send_eof()
        assert (await client.item()).key == 1
        assert await client.item() is None


async def test_a_half_closed_client_with_a_running_call_can_still_leave(tmp_path):
    async with serving(tmp_path) as (backend, path):
        async with connected(path) as client:
            await client.send(jsonrpc.encode_request(1, "peers.ping", {"peer": "slow"}))
            await client.stream.send_eof()
            await backend.until(lambda: backend.calls)
            assert backend.counters["cancelled"] == 0
        await backend.until(lambda: backend.counters["cancelled"] == 1)


async def test_events_begin_with_a_snapshot_and_are_numbered(tmp_path):
    async with serving(tmp_path) as (backend, path):
        async with connected(path) as client:
            assert (await client.call("events.subscribe")).result == {}
            snapshot = await client.item()
            fields = {notice.name: notice.fields for notice in METHODS["events.subscribe"].notices}
            assert snapshot.method == "snapshot"
            assert problem_in(fields["snapshot"], snapshot.params) == ""
            for n in (1, 2, 3):
                assert backend.watchers[0].post("event", {"name": "x", "time": "", "fields": {"n": n}})
                event = await client.item()
                assert (event.method, event.params["seq"], event.params["fields"]) == ("event", n, {"n": n})
            again = await client.call("events.subscribe", key=2)
            assert again.data["symbol"] == "invalid_request"
        await backend.until(lambda: not backend.watchers)


async def test_a_snapshot_beyond_the_limits_is_delivered(tmp_path):
    async with serving(tmp_path) as (backend, path), connected(path) as client:
        backend.inbox = [message(n, b"x" * 4_000) for n in range(watchers.MAX_WATCHER_LINES + 10)]
        assert (await client.call("messages.subscribe")).result == {"unread": len(backend.inbox)}
        for n in range(len(backend.inbox)):
            assert (await client.item()).params["seq"] == n
        assert backend.watchers[0].post("message", {"message": message(0, b"")})
        assert (await client.item()).params["seq"] == len(backend.inbox)


async def test_a_slow_watcher_is_told_and_closed(tmp_path):
    async with serving(tmp_path) as (backend, path), connected(path) as client:
        await client.call("events.subscribe")
        posted = 0
        while backend.watchers[0].post("event", {"name": "x" * 1_000, "time": "", "fields": {}}):
            posted += 1
        assert posted >= watchers.MAX_WATCHER_LINES - 1
        seen = []
        while item := await client.item():
            seen.append(item.method)
        assert seen[-1] == "lagged"
        await backend.until(lambda: not backend.watchers)


async def test_a_watcher_that_reads_nothing_at_all_is_closed_too(tmp_path, autojump_clock):
    stuck, other_end = trio.socket.socketpair()
    backend = FakeBackend()
    caller = Caller(1, 1, 1, "read")
    with other_end:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.Connection(trio.SocketStream(stuck), backend, caller).run)
            await other_end.send(jsonrpc.encode_request(1, "events.subscribe", {}))
            await backend.until(lambda: backend.watchers)
            watcher = backend.watchers[0]
            watcher.post("event", {"name": "x" * 3_000_000, "time": "", "fields": {}})
            await trio.testing.wait_all_tasks_blocked()
            while watcher.post("event", {"name": "y" * 10_000, "time": "", "fields": {}}):
                pass
        assert backend.watchers == []
    stuck.close()


@pytest.mark.parametrize(("permission", "allowed"), [("read", 13), ("write", 25), ("admin", 42)])
async def test_permissions(permission, allowed):
    ours, theirs = trio.socket.socketpair()
    passed = set()
    async with trio.open_nursery() as nursery, trio.SocketStream(theirs) as stream:
        who = Caller(1, 12345, 1, permission)
        nursery.start_soon(connection.Connection(trio.SocketStream(ours), FakeBackend(), who).run)
        client = Client(stream)
        for method in METHODS.values():
            await client.send(jsonrpc.encode_request(method.name, method.name, {"peer": "x", **method.example}))
            while (item := await client.item()).__class__ is jsonrpc.Notification:
                pass
            if isinstance(item, jsonrpc.Answer) or item.data["symbol"] != "permission_denied":
                passed.add(item.key)
            else:
                assert f"needs {method.permission}" in item.message
        await stream.send_eof()
        nursery.cancel_scope.cancel()
    assert len(passed) == allowed
    ours.close()


def test_groups_decide_permissions():
    nobody = 65534
    group = 54321
    assert permission_of(0, 0, Access()) == "admin"
    assert permission_of(os.geteuid(), group, Access("", "")) == "admin"
    assert permission_of(nobody, group, Access(str(group))) == "admin"
    assert permission_of(nobody, group, Access("no-such-group", str(group))) == "write"
    assert permission_of(nobody, group, Access("", "")) == "read"
    assert permission_of(4_000_000_000, group, Access(write_group=str(group))) == "write"  # no entry in passwd


async def test_too_many_connections_are_turned_away(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with (
        serving(tmp_path) as (_, path),
        connected(path),
        connected(path),
        await trio.open_unix_socket(path) as stream,
    ):
        third = Client(stream)
        assert (await third.item()).data["symbol"] == "busy"
        assert await third.item() is None
    async with serving(tmp_path / "again") as (_, path):
        for _ in range(5):
            async with connected(path) as client:
                assert isinstance(await client.call("node.version"), jsonrpc.Answer)


async def test_the_first_line_is_readable_by_hand(tmp_path):
    async with serving(tmp_path) as (_, path), await trio.open_unix_socket(path) as stream:
        with trio.fail_after(5):
            line = await stream.receive_some(10_000)
    hello = json.loads(line)
    assert hello["jsonrpc"] == "2.0"
    assert set(hello["params"]) == {"protocol", "version", "peer_id"}


STRANGER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(10)
    client.connect(sys.argv[1])
    lines = client.makefile("rb")
    lines.readline()
    for method in ("node.version", "node.rename"):
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"%s","params":{}}\\n' % method.encode())
        print(b"permission_denied" in lines.readline())
"""


@pytest.mark.needs("root")  # to become somebody else
async def test_another_user_may_read_if_the_socket_lets_him_in():
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        async with serving(Path(directory)) as (_, path):
            command = ["/usr/bin/python3", "-c", STRANGER, path]
            shut = await trio.run_process(command, user=65534, group=65534, capture_stderr=True, check=False)
            assert b"PermissionError" in shut.stderr
            os.chmod(path, 0o666)
            opened = await trio.run_process(command, user=65534, group=65534, extra_groups=[], capture_stdout=True)
            assert opened.stdout.split() == [b"False", b"True"]
