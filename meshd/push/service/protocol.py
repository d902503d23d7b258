"""The messages between push service and user agent, as autopush has them: JSON objects in text frames. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from meshd.crypto.base64url import encode_base64url
from meshd.errors import MalformedMessage

# Specification (autopush's protocol has no version and no document; its source is the reference)
PING = "{}"  # also the answer to a ping
SUBPROTOCOL = "push-notification"  # Firefox asks for it
CONTENT_ENCODING = "aes128gcm"

# Policy
MAX_ACK_UPDATES = 600  # in one message; 150 can be outstanding
MAX_KEY_CHARS = 128  # a VAPID key has 87
MAX_VERSION_CHARS = 256
MAX_BROADCASTS = 32  # names in one message that are answered; Firefox asks for one or two
MAX_BROADCAST_CHARS = 128  # of a name

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_ANY_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}(\1[0-9a-fA-F]{4}){2}\1[0-9a-fA-F]{12}\Z")


@dataclass(frozen=True, slots=True)
class Hello:
    """``uaid`` (16 bytes) is None when none was given, or one that this service can never have given out.

    ``broadcasts``: names of those that the user agent wants.
    """

    uaid: bytes | None
    broadcasts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Register:
    """``key`` is the VAPID key as it was written: judging it is not a matter of the protocol."""

    channel_id: bytes
    key: str | None


@dataclass(frozen=True, slots=True)
class Unregister:
    """``code``: 200 by the page, 201 over quota, 202 permission withdrawn."""

    channel_id: bytes
    code: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One message that the user agent has done with. ``code``: 100 delivered, 101 not decrypted, 102 not delivered."""

    channel_id: bytes
    version: str
    code: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Messages that need not be sent again."""

    updates: tuple[Acknowledged, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """The user agent's own handler failed (301 to 303) after it had acknowledged the message."""

    version: str
    code: int


@dataclass(frozen=True, slots=True)
class Ping:
    """``{}`` or ``{"messageType": "ping"}``."""


@dataclass(frozen=True, slots=True)
class BroadcastSubscribe:
    """A wish for Mozilla's broadcasts, of which this service has none."""

    broadcasts: tuple[str, ...] = ()


ClientMessage = Hello | Register | Unregister | Ack | Nack | Ping | BroadcastSubscribe


def parse(text: str) -> ClientMessage:
    """The message that ``text`` is. Raises MalformedMessage. Unknown members are ignored, as autopush ignores them."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedMessage("not JSON") from None
    if not isinstance(message, dict):
        raise MalformedMessage("not a JSON object")
    if not message:
        return Ping()
    match message.get("messageType"):
        case "hello":
            return Hello(_uaid(message.get("uaid")), _broadcasts(message.get("broadcasts")))
        case "register":
            key = message.get("key")
            if key is not None and (not isinstance(key, str) or len(key) > MAX_KEY_CHARS):
                raise MalformedMessage("key is not a short text")
            return Register(_channel_id(message, strict=True), key)
        case "unregister":
            return Unregister(_channel_id(message), _code(message, 200))
        case "ack":
            return Ack(_updates(message.get("updates")))
        case "nack":
            return Nack(_version(message), _code(message, 0))
        case "ping":
            return Ping()
        case "broadcast_subscribe":
            return BroadcastSubscribe(_broadcasts(message.get("broadcasts")))
        case _:
            raise MalformedMessage("unknown messageType")


def hello_answer(uaid: bytes, broadcasts: tuple[str, ...] = ()) -> str:
    """``use_webpush`` must be there and true, or Firefox takes no message with content."""
    members = {"messageType": "hello", "uaid": uaid.hex(), "status": 200, "use_webpush": True}
    return _compose(members | {"broadcasts": _not_found(broadcasts)})


def broadcast_answer(broadcasts: tuple[str, ...]) -> str:
    """There is none of that name, in autopush's words."""
    return _compose({"messageType": "broadcast", "broadcasts": _not_found(broadcasts)})


def register_answer(channel_id: bytes, status: int, endpoint: str) -> str:
    """``status`` 200 with the endpoint, or another with a sentence in its place, as autopush."""
    members = {"messageType": "register", "channelID": dashed(channel_id), "status": status, "pushEndpoint": endpoint}
    return _compose(members)


def unregister_answer(channel_id: bytes, status: int) -> str:
    """200, or 500 when it could not be written down."""
    return _compose({"messageType": "unregister", "channelID": dashed(channel_id), "status": status})


def notification(channel_id: bytes, version: str, body: bytes) -> str:
    """A push. An empty ``body`` is a push without content: neither ``data`` nor ``headers``."""
    members: dict[str, Any] = {"messageType": "notification", "channelID": dashed(channel_id), "version": version}
    if body:
        members |= {"data": encode_base64url(body), "headers": {"encoding": CONTENT_ENCODING}}
    return _compose(members)


def dashed(channel_id: bytes) -> str:
    """A channel's id (16 bytes) as a lower-case UUID."""
    text = channel_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _compose(members: dict[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _uaid(value: object) -> bytes | None:
    if not isinstance(value, str) or not _ANY_UUID.match(value):
        return None
    return bytes.fromhex(value.replace("-", ""))


def _channel_id(message: dict[str, Any], *, strict: bool = False) -> bytes:
    """``strict``: in one form only, as autopush asks in ``register`` and nowhere else."""
    value = message.get("channelID")
    if not isinstance(value, str) or not (_UUID if strict else _ANY_UUID).match(value):
        raise MalformedMessage(f"channelID is not a {'lower-case dashed ' if strict else ''}UUID")
    return bytes.fromhex(value.replace("-", ""))


def _broadcasts(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, dict) else {}
    return tuple(name for name in names if len(name) <= MAX_BROADCAST_CHARS)[:MAX_BROADCASTS]


def _not_found(broadcasts: tuple[str, ...]) -> dict[str, Any]:
    return {"errors": dict.fromkeys(broadcasts, "Broadcast not found")} if broadcasts else {}


def _code(message: dict[str, Any], default: int) -> int:
    value = message.get("code", default)
    return value if isinstance(value, int) and 0 <= value < 1000 else default


def _version(message: dict[str, Any]) -> str:
    value = message.get("version")
    if not isinstance(value, str) or len(value) > MAX_VERSION_CHARS:
        raise MalformedMessage("version is not a short text")
    return value


def _updates(value: object) -> tuple[Acknowledged, ...]:
    if not isinstance(value, list) or len(value) > MAX_ACK_UPDATES:
        raise MalformedMessage(f"updates is not a list of at most {MAX_ACK_UPDATES}")
    updates = []
    for update in value:
        if not isinstance(update, dict):
            raise MalformedMessage("an update is not a JSON object")
        updates.append(Acknowledged(_channel_id(update), _version(update), _code(update, 100)))
    return tuple(updates)
