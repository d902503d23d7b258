"""The user agent's side of autopush's WebSocket protocol: its messages as values. Pure.

Mozilla's push service and ``meshd-push`` speak it: JSON objects in text frames, told apart by ``messageType``. The
service's answers are taken apart strictly where we would act on them and leniently where we would not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.errors import MalformedMessage
from meshd.ids import ChannelId
from meshd.push_services import MAX_ENDPOINT_SIZE

# Specification: autopush
UNDECRYPTABLE = 101  # code of an ack

# Policy
MAX_UAID_CHARS = 128  # autopush's have 32
MAX_VERSION_CHARS = 1024  # opaque to us, kept until acknowledged; autopush's have up to about 200

_CHANNEL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE)


# -- what we say ------------------------------------------------------------------------------------------------------


def hello(uaid: str) -> str:
    """The first message of a connection, due within 5 s. ``uaid`` is what the service called us last, or empty."""
    message: dict[str, Any] = {"messageType": "hello", "use_webpush": True, "broadcasts": {}}
    if uaid:
        message["uaid"] = uaid
    return _text(message)


def register(channel: ChannelId, vapid_key: bytes) -> str:
    """Ask for an endpoint that takes pushes signed with ``vapid_key`` (65 bytes, uncompressed) and no other."""
    return _text({"messageType": "register", "channelID": str(UUID(bytes=channel)), "key": encode_base64url(vapid_key)})


def unregister(channel: ChannelId) -> str:
    """Have the channel's endpoint refuse everything from now on. Code 200 stands for "by the user's wish"."""
    return _text({"messageType": "unregister", "channelID": str(UUID(bytes=channel)), "code": 200})


def ack(updates: Iterable[tuple[ChannelId, str, int]]) -> str:
    """Acknowledge pushes: (channel, version, code)."""
    return _text({
        "messageType": "ack",
        "updates": [
            {"channelID": str(UUID(bytes=channel)), "version": version, "code": code}
            for channel, version, code in updates
        ],
    })  # fmt: skip


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


# -- what the service says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HelloAnswered:
    """Status 200: we are ``uaid`` now."""

    status: int
    uaid: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RegisterAnswered:
    """Status 200: ``endpoint`` stands. Status 0: the service said 200 and gave nothing that can be an endpoint."""

    channel: ChannelId
    status: int
    endpoint: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnregisterAnswered:
    """Status 200: that channel is gone."""

    channel: ChannelId
    status: int


@dataclass(frozen=True, slots=True)
class Notification:
    """A push. ``body`` is None where the service's own encoding is broken: to be acknowledged and forgotten."""

    channel: ChannelId
    version: str = field(repr=False)
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Other:
    """A message we have no use for (``broadcast``, the answer to a ping, one of a later time)."""


ServiceMessage = HelloAnswered | RegisterAnswered | UnregisterAnswered | Notification | Other


def parse(text: str) -> ServiceMessage:
    """One text message of the service. Raises MalformedMessage, and nothing else, for what is not of the protocol."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMessage("the push service sent something that is not JSON") from None
    if not isinstance(message, dict):
        raise MalformedMessage("the push service sent JSON that is no object")
    match message.get("messageType"):
        case "hello":
            return _hello(message)
        case "register":
            return _register(message)
        case "unregister":
            return UnregisterAnswered(_channel(message), _status(message))
        case "notification":
            return _notification(message)
        case _:
            return Other()


def _hello(message: dict[str, Any]) -> HelloAnswered:
    status = _status(message)
    uaid = message.get("uaid", "")
    if not isinstance(uaid, str) or not _is_plain(uaid, MAX_UAID_CHARS) or (status == 200 and not uaid):
        raise MalformedMessage("hello without a usable uaid")
    return HelloAnswered(status, uaid)


def _register(message: dict[str, Any]) -> RegisterAnswered:
    channel, status = _channel(message), _status(message)
    endpoint = message.get("pushEndpoint", "")
    if not isinstance(endpoint, str) or not _is_plain(endpoint, MAX_ENDPOINT_SIZE):
        endpoint = ""
    if status != 200:
        return RegisterAnswered(channel, status, "")
    return RegisterAnswered(channel, 200 if endpoint else 0, endpoint)


def _notification(message: dict[str, Any]) -> Notification:
    channel, version, data = _channel(message), message.get("version"), message.get("data", "")
    if not isinstance(version, str) or not 0 < len(version) <= MAX_VERSION_CHARS:
        raise MalformedMessage("notification without a usable version")
    try:
        body = decode_base64url(data) if isinstance(data, str) else None
    except MalformedMessage:
        body = None
    return Notification(channel, version, body)


def _channel(message: dict[str, Any]) -> ChannelId:
    text = message.get("channelID")
    if not isinstance(text, str) or not _CHANNEL.match(text):
        raise MalformedMessage("no channelID, or not a UUID")
    return ChannelId(bytes.fromhex(text.replace("-", "")))


def _status(message: dict[str, Any]) -> int:
    status = message.get("status")
    if type(status) is not int or not 0 < status < 1000:
        raise MalformedMessage("no status, or not a number")
    return status


def _is_plain(text: str, max_chars: int) -> bool:
    return len(text) <= max_chars and text.isascii() and text.isprintable() and " " not in text
