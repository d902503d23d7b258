"""Load for a push service: many user agents that stay connected, and pushes at a steady rate. A process of its own.

``python -m bench.push_load http://127.0.0.1:8085 --user-agents 2000`` prints a line when everybody is there. For each
line it then reads, such as ``500 30`` (pushes a second, seconds), it makes that load and prints a JSON object. A
service that dies under it ends the load. After a line ``leave`` every second user agent is away; after ``again`` all
come back and take what waits for them.

Nothing of the service's code is used, and as little of anything as can be: what this process costs the machine is not
the service's. Each user agent has one channel with a VAPID key of its own, as each holder of a node's has.

A push that finds all connections busy waits, and its time counts from when it was due, so that a service that stalls
cannot hide it by being asked less.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import selectors
import socket
import ssl
import struct
import sys
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from meshd.crypto import vapid

# Specification
_HEADER_SIZE = 86  # of an aes128gcm body with a key id of 65 bytes, RFC 8188 section 2.1
_OVERHEAD = 103  # header, delimiter and tag: what encryption adds
_TEXT, _CLOSE, _PING = 0x1, 0x8, 0x9  # RFC 6455 section 5.2

# Policy
SETUP_TIMEOUT = 10.0  # seconds for any answer while the user agents come
DRAIN_TIMEOUT = 20.0  # seconds for what is still on its way when the last push has been made
_READ_SIZE = 64 << 10
_HELLO = {"messageType": "hello", "use_webpush": True, "broadcasts": {}}
_LIFETIME = 3600  # TTL of the pushes, seconds: they have to be stored


@dataclass(slots=True)
class _UserAgent:
    stream: socket.socket
    endpoint: str = ""
    head: bytes = b""  # of a push to it, up to the blank line
    buffer: bytearray = field(default_factory=bytearray)
    uaid: str = ""


@dataclass(slots=True)
class _Sender:
    stream: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    push: int = -1  # the number of the push under way; -1: idle


@dataclass(slots=True)
class Load:
    """What to do and what came of it. Times of pushes in seconds from when each was due."""

    url: str
    user_agents: int
    senders: int
    size: int
    trusted: str | None = None  # a file with the certificate to believe
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: dict[int, float] = field(default_factory=dict)
    delivered: dict[int, float] = field(default_factory=dict)
    repeated: int = 0
    closed: int = 0
    took: float = 0.0  # seconds until the last one was there
    _agents: list[_UserAgent] = field(default_factory=list)
    _pool: list[_Sender] = field(default_factory=list)
    _waiting: deque[int] = field(default_factory=deque)
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _due: dict[int, float] = field(default_factory=dict)
    _next: int = 0  # the number of the next push

    def prepare(self) -> None:
        """Connect and register everybody."""
        for number in range(self.user_agents):
            agent = _UserAgent(self._connect())
            key = vapid.derive_key(number.to_bytes(32))
            self._greet(agent, key)
            agent.stream.setblocking(False)
            self._selector.register(agent.stream, selectors.EVENT_READ, agent)
            self._agents.append(agent)
        for _ in range(self.senders):
            sender = _Sender(self._connect())
            sender.stream.setblocking(False)
            self._selector.register(sender.stream, selectors.EVENT_READ, sender)
            self._pool.append(sender)

    def run(self, rate: float, seconds: float) -> None:
        """Push at the rate for so long, then wait until what was accepted has come."""
        first = self._next
        self.statuses.clear()
        for counted in (self.accepted, self.delivered, self._due):
            counted.clear()
        self.repeated = 0
        total = int(rate * seconds)
        idle = list(self._pool)
        pushed = 0
        began = time.perf_counter()
        last = began + seconds + DRAIN_TIMEOUT
        while time.perf_counter() < last:
            now = time.perf_counter()
            while pushed < total and began + pushed / rate <= now:
                self._due[first + pushed] = began + pushed / rate
                self._waiting.append(first + pushed)
                pushed += 1
            while idle and self._waiting:
                self._push(idle.pop(), self._waiting.popleft())
            if pushed == total and len(idle) == len(self._pool) and len(self.delivered) >= len(self.accepted):
                break
            wait = max(0.0, began + pushed / rate - now) if pushed < total else 0.1
            try:
                for key, _ in self._selector.select(wait):
                    if isinstance(key.data, _UserAgent):
                        self._on_user_agent(key.data)
                    elif self._on_answer(key.data):
                        idle.append(key.data)
            except ConnectionError:
                break
        self.took = time.perf_counter() - began
        self._next += total

    def leave(self) -> None:
        """Every second user agent goes away."""
        for agent in self._agents[::2]:
            self._selector.unregister(agent.stream)
            agent.stream.close()

    def come_back(self) -> None:
        """Connect all user agents anew, as who they were, and take what waits for them."""
        for entry in list(self._selector.get_map().values()):
            self._selector.unregister(entry.fileobj)
            entry.data.stream.close()
        for agent in self._agents:
            agent.stream = self._connect()
            agent.buffer.clear()
            self._upgrade(agent)
            agent.stream.sendall(_frame(_TEXT, json.dumps(_HELLO | {"uaid": agent.uaid}).encode()))
            agent.stream.setblocking(False)
            self._selector.register(agent.stream, selectors.EVENT_READ, agent)
        last = time.perf_counter() + DRAIN_TIMEOUT
        while self.accepted.keys() - self.delivered.keys() and time.perf_counter() < last:
            for key, _ in self._selector.select(0.1):
                self._on_user_agent(key.data)

    def report(self) -> dict[str, Any]:
        """Counts, and quantiles in seconds."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pushed": len(self._due),
            "accepted": len(self.accepted),
            "delivered": len(self.delivered),
            "lost": len(self.accepted.keys() - self.delivered.keys()),
            "repeated": self.repeated,
            "closed": self.closed,
            "took": self.took,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "accepted_after": _quantiles(self.accepted),
            "delivered_after": _quantiles(self.delivered),
            "cpu": used.ru_utime + used.ru_stime,
        }

    def _connect(self) -> socket.socket:
        parts = urlsplit(self.url)
        assert parts.hostname
        stream = socket.create_connection((parts.hostname, parts.port or 443), SETUP_TIMEOUT)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            return self._context().wrap_socket(stream, server_hostname=parts.hostname)
        return stream

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.trusted)
        context.check_hostname = self.trusted is None  # a certificate named as a file is believed whatever its name
        return context

    def _upgrade(self, agent: _UserAgent) -> None:
        nonce = base64.b64encode(os.urandom(16)).decode()
        agent.stream.sendall(
            f"GET / HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n"
            "Sec-WebSocket-Protocol: push-notification\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self._more(agent.stream)
        assert answer.startswith(b"HTTP/1.1 101 "), answer

    def _greet(self, agent: _UserAgent, key: vapid.VapidKey) -> None:
        self._upgrade(agent)
        agent.uaid = self._ask(agent, _HELLO)["uaid"]
        public = base64.urlsafe_b64encode(key.public).rstrip(b"=").decode()
        register = {"messageType": "register", "channelID": str(uuid.uuid4()), "key": public}
        answered = self._ask(agent, register)
        assert answered["status"] == 200, answered
        agent.endpoint = answered["pushEndpoint"]
        audience = vapid.origin_of(agent.endpoint)
        capability = vapid.issue(key, audience, int(time.time()) + 12 * 3600)
        agent.head = (
            f"POST {urlsplit(agent.endpoint).path} HTTP/1.1\r\nHost: {urlsplit(agent.endpoint).netloc}\r\n"
            f"TTL: {_LIFETIME}\r\nUrgency: high\r\nContent-Encoding: aes128gcm\r\n"
            f"Content-Type: application/octet-stream\r\n"
            f"Authorization: {vapid.authorization(capability, audience, key.public)}\r\n"
            f"Content-Length: {self.size + _OVERHEAD}\r\n\r\n"
        ).encode()

    def _more(self, stream: socket.socket) -> bytes:
        data = stream.recv(_READ_SIZE)
        assert data, "the service has closed a connection while the user agents came"
        return data

    def _ask(self, agent: _UserAgent, message: dict[str, Any]) -> dict[str, Any]:
        agent.stream.sendall(_frame(_TEXT, json.dumps(message).encode()))
        while True:
            for opcode, payload in _frames(agent.buffer):
                if opcode == _TEXT:
                    answer: dict[str, Any] = json.loads(payload)
                    return answer
            agent.buffer += self._more(agent.stream)

    def _push(self, sender: _Sender, number: int) -> None:
        sender.push = number
        agent = self._agents[number % len(self._agents)]
        # What stands for the ciphertext ends in the number; the header has to look like one.
        filler = bytes(self.size + _OVERHEAD - _HEADER_SIZE - 8)
        header = bytes(16) + struct.pack("!IB", 4096, 65) + b"\x04" + bytes(64)
        sender.stream.send(agent.head + header + filler + number.to_bytes(8))

    def _renew(self, sender: _Sender) -> None:
        """A connection that nothing was pushed over for a while has been closed, as it may be."""
        self._selector.unregister(sender.stream)
        sender.stream.close()
        sender.stream = self._connect()
        sender.stream.setblocking(False)
        self._selector.register(sender.stream, selectors.EVENT_READ, sender)

    def _on_answer(self, sender: _Sender) -> bool:
        """True when the answer is there and the connection free again."""
        if not _receive(sender.stream, sender.buffer):
            if sender.push >= 0:
                raise ConnectionError("the service has closed a connection with a push under way")
            self._renew(sender)
            return False
        end = sender.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(sender.buffer[:end]).lower()
        _, found, length = head.partition(b"content-length:")
        size = int(length.partition(b"\r\n")[0]) if found else 0
        if len(sender.buffer) < end + 4 + size:
            return False
        status = int(head[9:12])
        self.statuses[status] += 1
        if status == 201:
            self.accepted[sender.push] = time.perf_counter() - self._due[sender.push]
        sender.push = -1
        sender.buffer.clear()
        return True

    def _on_user_agent(self, agent: _UserAgent) -> None:
        alive = _receive(agent.stream, agent.buffer)
        now = time.perf_counter()
        updates = []
        for opcode, payload in _frames(agent.buffer):
            if opcode == _PING:
                agent.stream.send(_frame(0xA, payload))
            elif opcode == _CLOSE:
                alive = False
            elif opcode == _TEXT:
                message = json.loads(payload)
                if message.get("messageType") != "notification":
                    continue
                number = int.from_bytes(base64.urlsafe_b64decode(message["data"] + "==")[-8:])
                self.repeated += number in self.delivered
                if number in self._due:  # or it is of an earlier load, and was given up
                    self.delivered.setdefault(number, now - self._due[number])
                updates.append({"channelID": message["channelID"], "version": message["version"], "code": 100})
        if updates:
            acknowledgement = {"messageType": "ack", "updates": updates}
            agent.stream.send(_frame(_TEXT, json.dumps(acknowledgement).encode()))
        if not alive:
            self.closed += 1
            self._selector.unregister(agent.stream)
            agent.stream.close()


def _receive(stream: socket.socket, buffer: bytearray) -> bool:
    """Read all there is; False when the other end has closed."""
    try:
        while data := stream.recv(_READ_SIZE):
            buffer += data
            if not isinstance(stream, ssl.SSLSocket):
                return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False


def _frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame of a client, masked with zeros: RFC 6455 wants a mask, and any will do here."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def _frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """The whole frames of a server at the front of ``buffer``, taken out of it. Fragments are not expected."""
    found = []
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < start + size:
            break
        found.append((buffer[0] & 0x0F, bytes(buffer[start : start + size])))
        del buffer[: start + size]
    return found


def _quantiles(times: dict[int, float]) -> dict[str, float]:
    ordered = sorted(times.values()) or [0.0]
    return {
        name: ordered[min(int(share * len(ordered)), len(ordered) - 1)]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


def main() -> None:
    """A line of JSON when everybody is there, and one for each load that is asked for on standard input."""
    parser = argparse.ArgumentParser(prog="push_load", description=__doc__)
    parser.add_argument("url", help="where the service answers")
    parser.add_argument("--user-agents", type=int, default=100)
    parser.add_argument("--senders", type=int, default=16, help="connections that push")
    parser.add_argument("--size", type=int, default=1024, help="bytes of a message before its encryption")
    parser.add_argument("--trust", help="a file with the certificate to believe, for https")
    arguments = parser.parse_args()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    load = Load(arguments.url, arguments.user_agents, arguments.senders, arguments.size, arguments.trust)
    load.prepare()
    print(json.dumps({"user_agents": load.user_agents}), flush=True)
    for line in sys.stdin:
        if line == "leave\n":
            load.leave()
        elif line == "again\n":
            load.come_back()
        else:
            rate, seconds = map(float, line.split())
            load.run(rate, seconds)
        print(json.dumps(load.report()), flush=True)


if __name__ == "__main__":
    main()
