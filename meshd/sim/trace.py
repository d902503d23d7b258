"""A hash over every event that every node has handled and every command it gave: two runs are equal if it is.

What is frequent goes in as bytes that are there already; the rest by its ``repr``, whose order is that of the code.
"""

from __future__ import annotations

import hashlib
import struct

from meshd.core import commands as cm
from meshd.core import events as ev

_HEAD = struct.Struct("<dIH")  # when, whose, how many commands


class Trace:
    """Fed by the network, event by event."""

    __slots__ = ("_hash", "_names")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._names: dict[type, bytes] = {}

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()

    def note(self, now: float, index: int, event: ev.Event, commands: list[cm.Command]) -> None:
        """One event. The bytes of a message that comes are those of one that has left."""
        parts = [_HEAD.pack(now, index, len(commands)), self._name(event)]
        for command in commands:
            parts.append(self._name(command))
            match command:
                case cm.SendMessage(link, data):
                    parts += (link.to_bytes(8, "big"), data)
                case cm.SendHeartbeat(link, number):
                    parts += (link.to_bytes(8, "big"), number.to_bytes(8, "big"))
                case cm.Persist(_, changes):
                    for change in changes:
                        parts.append(change.table.encode())
                        if isinstance(change, cm.Put):
                            parts += (change.key, change.value)
                case cm.SendPush():
                    parts.append(command.body)
                case _:
                    parts.append(repr(command).encode())
        self._hash.update(b"".join(parts))

    def _name(self, thing: object) -> bytes:
        cls = type(thing)
        name = self._names.get(cls)
        if name is None:
            name = self._names[cls] = cls.__name__.encode()
        return name
