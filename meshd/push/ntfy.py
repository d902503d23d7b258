"""ntfy as a UnifiedPush server, from the user agent's side: names, addresses and messages as values. Pure.

An endpoint is a topic with a name that nobody can guess: whoever knows it may push to it and listen to it. Topics come
into being when they are first used; a user agent listens to several over one WebSocket, on which the server writes one
JSON object for each message. What came while nobody listened is kept for a while (12 h by default) and asked for with
``since``. Read in ntfy's source, version 2.13.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from meshd.errors import MalformedMessage
from meshd.push.websocket import ServiceUrl, parse_service_url

# Specification: ntfy
TOPIC_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
TOPIC_PREFIX = "up"  # with it and just this length, pushes are counted to whoever listens and not to who sends them
TOPIC_SIZE = 14
_TOPIC = re.compile(r"up[A-Za-z0-9]{12}\Z")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9]{12}\Z")
_MAX_TIME = 1 << 40  # seconds; what is later is no time

RANDOM_CHARS = TOPIC_SIZE - len(TOPIC_PREFIX)  # 71 bits


def topic_of(randoms: Iterable[float]) -> str:
    """A topic's name made of ``RANDOM_CHARS`` random numbers from 0 to 1 (exclusive)."""
    return TOPIC_PREFIX + "".join(TOPIC_CHARS[int(number * len(TOPIC_CHARS))] for number in randoms)


def is_topic(text: object) -> bool:
    """Whether that could be one of ours."""
    return isinstance(text, str) and _TOPIC.match(text) is not None


def is_message_id(text: object) -> bool:
    """Whether ntfy could have called a message so."""
    return isinstance(text, str) and _MESSAGE_ID.match(text) is not None


def endpoint_of(server: str, topic: str) -> str:
    """The push endpoint of a topic at ``server`` (``https://ntfy.example.org``)."""
    return f"{server}/{topic}?up=1"


def listening_url(server: str, topics: Iterable[str], since: str, *, poll: bool = False) -> ServiceUrl | None:
    """Where to listen to ``topics``, from the message ``since`` on; from the beginning if that is empty.

    ``poll``: only what is kept, then the server hangs up. None if ``server`` is no address.
    """
    scheme = "wss" if urlsplit(server).scheme == "https" else "ws"
    base = server.partition("://")[2]
    query = f"since={since or 'all'}{'&poll=1' if poll else ''}"
    return parse_service_url(f"{scheme}://{base}/{','.join(topics)}/ws?{query}")


@dataclass(frozen=True, slots=True)
class Opened:
    """The server listens for us; the first message on a connection that does not poll. ``time`` by its clock."""

    time: int


@dataclass(frozen=True, slots=True)
class Published:
    """Somebody's message. ``body`` is None if it cannot be a push: to be forgotten.

    ``kept``: the server would find it again by its id.
    """

    id: str
    time: int
    topic: str = field(repr=False)
    kept: bool
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Other:
    """A message we have no use for."""


ServerMessage = Opened | Published | Other


def parse(text: str) -> ServerMessage:
    """One text message of the server. Raises MalformedMessage, and nothing else, for what is not of the protocol."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMessage("the ntfy server sent something that is not JSON") from None
    if not isinstance(message, dict):
        raise MalformedMessage("the ntfy server sent JSON that is no object")
    match message.get("event"):
        case "open":
            return Opened(_time(message))
        case "message":
            return _published(message)
        case _:
            return Other()


def _published(message: dict[str, Any]) -> Published:
    identifier, topic = message.get("id"), message.get("topic")
    if not is_message_id(identifier) or not is_topic(topic):
        raise MalformedMessage("a message without a usable id or topic")
    assert isinstance(identifier, str)
    assert isinstance(topic, str)
    return Published(identifier, _time(message), topic, "expires" in message, _body(message))


def _body(message: dict[str, Any]) -> bytes | None:
    """What was pushed. ntfy writes down what happens to be UTF-8 as it is and everything else as base64."""
    text, encoding = message.get("message", ""), message.get("encoding", "")
    if not isinstance(text, str):
        return None
    try:
        if encoding == "base64":
            return binascii.a2b_base64(text, strict_mode=True)
        return text.encode() if encoding == "" else None
    except ValueError:  # binascii.Error is one; lone surrogates are another
        return None


def _time(message: dict[str, Any]) -> int:
    time = message.get("time")
    if type(time) is not int or not 0 <= time < _MAX_TIME:
        raise MalformedMessage("no time, or none that can be")
    return time
