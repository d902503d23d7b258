"""What both ends of a pair do once they are connected, the same for all contestants that are written in Python.

A pair is two processes, ``a`` (offers, sends) and ``b``. They talk to the bench in lines of JSON on their standard
streams (``bench/contestants/work.mjs`` is the same for Node):

    out  {"describe": X}             handed to the other end as it is
    in   {"describe": X}             what the other end has said
    out  {"open": SECONDS}           both ends: messages pass; how long since the other's description was known
    in   {"do": "bulk"}              a: send numbered messages of 16 KiB for as long as this process lives
    in   {"do": "ping", "count": N, "interval": S}
                                     a: N messages of 100 bytes, each echoed by b; S = 0: the next when one is back
    out  {"round_trips": [S, ...]}
    in   {"do": "report"}            b: what has come
    out  {"delivered": [[MONOTONIC, BYTES], ...], "wrong": N}
                                     bytes in all by that time; messages that were not the next, or not what was sent
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

# Specification (of this bench)
BULK_SIZE = 16_384  # bytes
PING_SIZE = 100
BULK, PING, PONG = 0, 1, 2  # first byte of a message; of bulk the next eight are its number
HEADER_SIZE = 9

# Policy
SAMPLE_INTERVAL = 0.05  # seconds between two entries of "delivered"
TURN_COUNT = 16  # bulk messages that are sent before anybody else has a turn

_TIME = struct.Struct(">d")
_PATTERN = bytes((n * 31 + (n >> 8) * 17) & 0xFF for n in range(BULK_SIZE + 256))


def bulk_message(number: int) -> bytes:
    """The message of that number: its contents depend on the number, so that no other passes for it."""
    start = number & 0xFF
    return b"\0" + number.to_bytes(8, "big") + _PATTERN[start : start + BULK_SIZE - HEADER_SIZE]


def say(**line: Any) -> None:
    """One line to the bench."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Work:
    """One end. ``send(message, urgent)`` and ``has_room()`` are the contestant's; it calls ``received`` and ``pump``.

    All of it on the thread of one asyncio loop.
    """

    def __init__(self, send: Callable[[bytes, bool], None], has_room: Callable[[], bool]) -> None:
        self._send = send
        self._has_room = has_room
        self._loop = asyncio.get_running_loop()
        self._sending = False
        self._turn_comes = False
        self._sent_count = 0
        self._received_count = 0
        self._size = 0
        self._wrong = 0
        self._delivered: list[tuple[float, int]] = []
        self._sampled = 0.0
        self._pings_left = 0
        self._interval = 0.0
        self._round_trips: list[float] = []
        self._asked = 0

    def do(self, command: dict[str, Any]) -> None:
        """Carry out a line of the bench."""
        what = command["do"]
        if what == "bulk":
            self._sending = True
            self.pump()
        elif what == "ping":
            self._asked = self._pings_left = command["count"]
            self._interval = command["interval"]
            self._round_trips = []
            self._ping()
        elif what == "report":
            say(delivered=[*self._delivered, (time.monotonic(), self._size)], wrong=self._wrong)

    def pump(self) -> None:
        """Send while there is room. Called by the contestant when there is room again."""
        if not self._sending or self._turn_comes:
            return
        for _ in range(TURN_COUNT):
            if not self._has_room():
                return
            self._send(bulk_message(self._sent_count), False)
            self._sent_count += 1
        self._turn_comes = True
        self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_comes = False
        self.pump()

    def received(self, message: bytes) -> None:
        """A message of the other end."""
        kind = message[0]
        if kind == BULK:
            if message != bulk_message(self._received_count):
                self._wrong += 1
            self._received_count += 1
            self._size += len(message)
            now = time.monotonic()
            if now - self._sampled >= SAMPLE_INTERVAL:
                self._sampled = now
                self._delivered.append((now, self._size))
        elif kind == PING:
            self._send(bytes([PONG]) + message[1:], True)
        else:
            self._round_trips.append(time.monotonic() - _TIME.unpack_from(message, 1)[0])
            if len(self._round_trips) == self._asked:
                say(round_trips=self._round_trips)
            elif self._interval == 0:
                self._ping()

    def _ping(self) -> None:
        self._pings_left -= 1
        self._send((bytes([PING]) + _TIME.pack(time.monotonic())).ljust(PING_SIZE, b"\0"), True)
        if self._interval > 0 and self._pings_left > 0:
            self._loop.call_later(self._interval, self._ping)


class Worker(Protocol):
    """Whoever carries out the bench's commands."""

    def do(self, command: dict[str, Any]) -> None:
        """Carry out one."""


def listen(on_description: Callable[[Any], None], work: Callable[[], Worker | None]) -> None:
    """Read the bench's lines on a thread of their own, act on them in this thread's loop; the end of them ends us."""
    loop = asyncio.get_running_loop()

    def act(line: dict[str, Any]) -> None:
        at_work = work()
        if "describe" in line:
            on_description(line["describe"])
        elif at_work is not None:
            at_work.do(line)

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(act, json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
