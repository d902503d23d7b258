"""What a daemon's core was told and what it gave, in a file, so that it can be played again (``--record FILE``).

For debugging alone: the file has the node's private keys, every message in clear and every token. It is made with
mode 0600 and never grows past ``MAX_RECORDING_SIZE``. A frame is four bytes of length and msgpack: first the header,
then one for each event, with the randomness that its handling drew and the shape of the commands that it gave.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, BinaryIO, Protocol

import msgpack

import meshd.config
import meshd.core.events
import meshd.wire.session_description
from meshd.config import Config
from meshd.core.commands import Command
from meshd.core.events import Event
from meshd.core.state import Stored
from meshd.crypto.suite import RealSuite
from meshd.errors import MalformedMessage
from meshd.ids import Now

# Specification (ours)
VERSION = 1
_LENGTH_SIZE = 4
DIGEST_SIZE = 8

# Policy
MAX_RECORDING_SIZE = 256 * 1024 * 1024  # bytes; hours of a busy node. What comes afterwards is not recorded
MAX_FRAME_SIZE = 64 * 1024 * 1024  # bytes; the header has the whole store

Draw = int | float | bytes

_CLASSES = {
    cls.__name__: cls
    for module in (meshd.core.events, meshd.wire.session_description, meshd.config)
    for cls in vars(module).values()
    if isinstance(cls, type) and is_dataclass(cls)
}


class Core(Protocol):
    """What is recorded: ``meshd.core.node.Node``."""

    def handle(self, event: Event, now: Now) -> list[Command]:
        """Take an event, give what is to be done."""

    def next_deadline(self) -> float | None:
        """When the next timer is due."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a node is made of."""

    config: Config
    identity_seed: bytes
    sealing_seed: bytes
    stored: Stored
    drawn: tuple[Draw, ...]  # while it was made


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. ``commands``: of each its name, its size, and a digest of all that is in it."""

    now: Now
    event: Event
    drawn: tuple[Draw, ...]
    commands: tuple[tuple[str, int, bytes], ...]


def shape(command: Command) -> tuple[str, int, bytes]:
    """What a command looks like from afar."""
    packed = pack(command)
    return type(command).__name__, len(packed), hashlib.sha256(packed).digest()[:DIGEST_SIZE]


# -- values -----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"@": type(value).__name__, **{item.name: _plain(getattr(value, item.name)) for item in fields(value)}}
    if isinstance(value, tuple):
        return {"()": [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "items"):
        return {"{}": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 63:
        return {"int": f"{value:x}"}
    if isinstance(value, bytes | str | int | float | None):
        return value
    return {"other": repr(value)}  # of commands alone: these are never read back


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "()" in value:
        return tuple(_rich(item) for item in value["()"])
    if "{}" in value:
        return {_rich(key): _rich(item) for key, item in value["{}"]}
    if "int" in value:
        return int(value["int"], 16)
    cls = _CLASSES[value["@"]]
    return cls(**{key: _rich(item) for key, item in value.items() if key != "@"})


def pack(value: Any) -> bytes:
    """Any event, command or configuration as bytes."""
    packed: bytes = msgpack.packb(_plain(value))
    return packed


def unpack(data: bytes) -> Any:
    """The inverse, for events and configurations. Raises MalformedMessage."""
    try:
        return _rich(msgpack.unpackb(data, strict_map_key=False))
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"not a recorded value: {error}") from None


# -- randomness -------------------------------------------------------------------------------------------------------


class RecordedDice(SystemRandom):
    """The system's, and every draw is noted."""

    def __init__(self, note: Callable[[Draw], None]) -> None:
        self._note = note
        super().__init__()

    def random(self) -> float:
        """See ``random.Random``."""
        drawn = super().random()
        self._note(drawn)
        return drawn

    def getrandbits(self, k: int, /) -> int:
        """See ``random.Random``."""
        drawn = super().getrandbits(k)
        self._note(drawn)
        return drawn

    def randbytes(self, n: int) -> bytes:
        """See ``random.Random``."""
        drawn = super().randbytes(n)
        self._note(drawn)
        return drawn


class RecordedSuite(RealSuite):
    """The real keys; what sealing and signing with fresh randomness gave is noted like any draw."""

    def __init__(self, identity_seed: bytes, sealing_seed: bytes, note: Callable[[Draw], None]) -> None:
        super().__init__(identity_seed, sealing_seed)
        self._note = note

    def _noted(self, made: bytes) -> bytes:
        self._note(made)
        return made

    def seal(self, recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
        """See ``Suite``."""
        return self._noted(super().seal(recipient, info, plaintext))

    def issue_capability(self, seed: bytes, audience: str, exp: int, subject: str) -> bytes:
        """See ``Suite``."""
        return self._noted(super().issue_capability(seed, audience, exp, subject))

    def encrypt_push(self, p256dh: bytes, auth: bytes, plaintext: bytes, max_body: int = 4096) -> bytes:
        """See ``Suite``."""
        return self._noted(super().encrypt_push(p256dh, auth, plaintext, max_body))


# -- writing ----------------------------------------------------------------------------------------------------------


class Recorder:
    """Stands between the driver and the node. First ``dice`` and ``suite`` for the node, then ``begin`` with it."""

    def __init__(self, path: Path, identity_seed: bytes, sealing_seed: bytes) -> None:
        self._file: BinaryIO | None = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._seeds = (identity_seed, sealing_seed)
        self._drawn: list[Draw] = []
        self._size = 0
        self._core: Core | None = None
        self.dice: Random = RecordedDice(self._drawn.append)
        self.suite = RecordedSuite(identity_seed, sealing_seed, self._drawn.append)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is recorded."""
        return self._file is None

    def begin(self, core: Core, config: Config, stored: Stored) -> None:
        """This is the node, and what it was made of."""
        self._core = core
        self._write([VERSION, *(_plain(v) for v in (config, *self._seeds, stored, self._take_drawn()))])

    def _take_drawn(self) -> tuple[Draw, ...]:
        drawn = tuple(self._drawn)
        self._drawn.clear()
        return drawn

    def handle(self, event: Event, now: Now) -> list[Command]:
        """See ``Core``; the file has it before the commands are carried out."""
        assert self._core is not None
        commands = self._core.handle(event, now)
        if self._file is not None:
            shapes = tuple(shape(command) for command in commands)
            self._write([now.mono, now.unix, _plain(event), _plain(self._take_drawn()), _plain(shapes)])
        self._drawn.clear()
        return commands

    def next_deadline(self) -> float | None:
        """See ``Core``."""
        assert self._core is not None
        return self._core.next_deadline()

    def _write(self, frame: list[Any]) -> None:
        packed: bytes = msgpack.packb(frame)
        self._size += _LENGTH_SIZE + len(packed)
        if self._file is None or self._size > MAX_RECORDING_SIZE or len(packed) > MAX_FRAME_SIZE:
            self.close()
            return
        self._file.write(len(packed).to_bytes(_LENGTH_SIZE, "big") + packed)
        self._file.flush()

    def close(self) -> None:
        """No more of it."""
        if self._file is not None:
            self._file.close()
            self._file = None


# -- reading ----------------------------------------------------------------------------------------------------------


def _frames(path: Path) -> Iterator[Any]:
    """A last frame that is cut off is left out: the daemon was killed while it wrote."""
    with path.open("rb") as file:
        while len(length := file.read(_LENGTH_SIZE)) == _LENGTH_SIZE:
            size = int.from_bytes(length, "big")
            if size > MAX_FRAME_SIZE:
                raise MalformedMessage(f"{path}: a frame of {size} bytes; this is no recording")
            data = file.read(size)
            if len(data) == size:
                yield unpack(data)


def read(path: Path) -> tuple[Header, Iterator[Entry]]:
    """A recording. Raises OSError, and MalformedMessage for what is none, also while the entries are read."""
    frames = _frames(path)
    first = next(frames, None)
    if not isinstance(first, list) or len(first) != 6 or first[0] != VERSION:
        raise MalformedMessage(f"{path} is no recording of version {VERSION}")
    return Header(*first[1:]), _entries(frames, path)


def _entries(frames: Iterator[Any], path: Path) -> Iterator[Entry]:
    for frame in frames:
        if not isinstance(frame, list) or len(frame) != 5:
            raise MalformedMessage(f"{path}: a frame that is no event")
        mono, unix, event, drawn, commands = frame
        yield Entry(Now(mono, unix), event, drawn, commands)
