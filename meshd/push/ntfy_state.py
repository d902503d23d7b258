"""What we are to an ntfy server, over restarts: one file for each user agent.

autopush keeps for us which channels we have and what of their messages we have taken; ntfy does not. The file is
named after the service, and the id in it ties it to the core's own records: if it is lost, or somebody else's, the
core sees another id and subscribes anew, as when autopush has forgotten us.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from meshd.durable_file import sync_directory, write_file
from meshd.ids import CHANNEL_ID_SIZE, ChannelId
from meshd.push.ntfy import is_message_id, is_topic
from meshd.push.ntfy_position import MAX_REMEMBERED, Position

# Policy
MAX_TOPICS_PER_STREAM = 128  # in one connection: their names stand in its URL, and proxies allow 4 or 8 KB for that
MAX_STREAMS = 9  # 1,152 topics: the core's 512 channels twice over. A server allows 30 connections from one address
_MAX_FILE_SIZE = 4 << 20
_VERSION = 1


@dataclass(slots=True)
class Stream:
    """The topics of one connection, and how far we have read them. A topic stays where it is."""

    # By name, which is a secret. None: our own, which no one is told
    topics: dict[str, ChannelId | None] = field(default_factory=dict, repr=False)
    position: Position = field(default_factory=Position)


@dataclass(slots=True)
class NtfyState:
    """One user agent. ``uaid`` is a topic itself: so there is something to listen to before there is any channel."""

    uaid: str = field(repr=False)
    streams: list[Stream]

    @classmethod
    def new(cls, uaid: str) -> NtfyState:
        """A user agent that nobody knows yet."""
        return cls(uaid, [Stream({uaid: None})])

    def stream_of(self, channel: ChannelId) -> tuple[Stream, str] | None:
        """Where that channel is listened to, and its topic."""
        for stream in self.streams:
            for topic, held in stream.topics.items():
                if held == channel:
                    return stream, topic
        return None

    def stream_with_room(self) -> Stream | None:
        """A stream for one more topic; None if all are full and there are enough of them."""
        for stream in self.streams:
            if len(stream.topics) < MAX_TOPICS_PER_STREAM:
                return stream
        if len(self.streams) == MAX_STREAMS:
            return None
        self.streams.append(Stream())
        return self.streams[-1]

    def render(self) -> str:
        """The file's text."""
        return json.dumps({
            "version": _VERSION,
            "uaid": self.uaid,
            "streams": [
                {
                    "topics": {topic: channel.hex() if channel else "" for topic, channel in stream.topics.items()},
                    "since": stream.position.since,
                    "taken": stream.position.taken(),
                }
                for stream in self.streams
            ],
        })  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> NtfyState:
        """The inverse of ``render``. Raises ValueError for anything else."""
        try:
            return cls._read(json.loads(text))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a state of a user agent: {type(error).__name__}") from None

    @classmethod
    def _read(cls, found: dict[str, Any]) -> NtfyState:
        if found["version"] != _VERSION or not is_topic(found["uaid"]) or len(found["streams"]) > MAX_STREAMS:
            raise ValueError("of another version, or damaged")
        state = cls(found["uaid"], [_stream_of(stream) for stream in found["streams"]])
        if not state.streams or state.uaid not in state.streams[0].topics:
            raise ValueError("without its own topic")
        return state


def _stream_of(found: dict[str, Any]) -> Stream:
    topics: dict[str, ChannelId | None] = {}
    for topic, channel in found["topics"].items():
        raw = bytes.fromhex(channel)
        if not is_topic(topic) or len(raw) not in (0, CHANNEL_ID_SIZE):
            raise ValueError("a topic that cannot be one")
        topics[topic] = ChannelId(raw) if raw else None
    since, taken = found["since"], found["taken"]
    if (since != "" and not is_message_id(since)) or len(topics) > MAX_TOPICS_PER_STREAM or len(taken) > MAX_REMEMBERED:
        raise ValueError("a position that cannot be one")
    for identifier, time in taken:
        if not is_message_id(identifier) or type(time) is not int:
            raise ValueError("a message that cannot be one")
    return Stream(topics, Position(since, [(identifier, time) for identifier, time in taken]))


class Record(Protocol):
    """One text that outlives the process."""

    async def read(self) -> str | None:
        """The text; None if there is none that can be read."""

    async def write(self, text: str) -> None:
        """Replace it, wholly or not at all. Raises OSError."""

    async def remove(self) -> None:
        """Leave nothing there. Raises OSError."""


class NtfyRecord:
    """Where a user agent is written down. One can end while its successor begins: the last to ``claim`` it writes."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._lock = trio.Lock()
        self._ticket = 0

    def claim(self) -> int:
        """It is ours from now on; what proves it."""
        self._ticket += 1
        return self._ticket

    async def load(self) -> NtfyState | None:
        """What is written there; None if there is nothing that can be used."""
        async with self._lock:
            text = await self._record.read()
        with suppress(ValueError):
            return None if text is None else NtfyState.parse(text)
        return None

    async def save(self, state: NtfyState, ticket: int) -> None:
        """Write it there, if it is still ours. Raises OSError."""
        text = state.render()
        async with self._lock:
            if ticket == self._ticket:
                await self._record.write(text)

    async def remove(self, ticket: int) -> None:
        """Leave nothing there, if it is still ours. Raises OSError."""
        async with self._lock:
            if ticket == self._ticket:
                await self._record.remove()


class Unkept:
    """A ``Record`` that ends with this object."""

    def __init__(self, service: str, newcomers: bool) -> None:
        self._text: str | None = None

    async def read(self) -> str | None:
        """See ``Record``."""
        return self._text

    async def write(self, text: str) -> None:
        """See ``Record``."""
        self._text = text

    async def remove(self) -> None:
        """See ``Record``."""
        self._text = None


def file_record(directory: Path, service: str, newcomers: bool) -> Record:
    """A user agent's file in the state directory."""
    name = hashlib.sha256(f"{service}\n{int(newcomers)}".encode()).hexdigest()[:16]
    return _File(directory / f"unifiedpush-{name}.json")


class _File:
    """A ``Record`` on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> str | None:
        return await trio.to_thread.run_sync(_read, self._path)

    async def write(self, text: str) -> None:
        await trio.to_thread.run_sync(partial(write_file, self._path, text, replace=True))

    async def remove(self) -> None:
        await trio.to_thread.run_sync(_remove, self._path)


def _read(path: Path) -> str | None:
    with suppress(OSError, ValueError), path.open("rb") as file:
        return file.read(_MAX_FILE_SIZE).decode()
    return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
