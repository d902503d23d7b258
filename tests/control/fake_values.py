"""What a fake daemon shows of itself and its mesh, some of it to steer a terminal with."""

from __future__ import annotations

from typing import Any

from meshd.control.encodings import encode_bytes, encode_time
from meshd.errors import Code, ControlError
from meshd.ids import short, text_of

OWN_ID = bytes(range(32))
DESK_ID = b"\x40" * 32
EVIL_ID = b"\x80" * 32
MESH_ID = b"\x11" * 32
STARTED = 1_700_000_000.0
TOKEN = "mesh1" + "abcdefghij" * 50
TROUBLE = {"last_error": "no\x1b[0mpath", "last_error_at": "2023-11-14T22:13:20.000Z"}
EVIL_TEXT = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b5m \u202ereversed\r\x00 tab\there\nsecond line"


PATH = {"kind": "host", "remote_kind": "srflx", "local": "127.0.0.1:4000", "remote": "127.0.0.1:5000"}
TRAFFIC = {
    "age": 7_260.0,
    "rtt": 0.0121,
    "min_rtt": 0.011,
    "packets_sent": 81_233,
    "packets_received": 212_222,
    "packets_lost": 312,
    "packets_retransmitted": 340,
    "sent_size": 91_234_567,
    "received_size": 1_234_567_890,
    "send_rate": 300_000.0,
    "receive_rate": 1_234_567.8,
    "buffered_size": 16_384,
    "window_size": 262_144,
    "packet_size": 1_191,
}


def outgoing(name: str, state: str, *kept_by: str) -> dict[str, Any]:
    return {
        "message_id": text_of(bytes(16)),
        "peer_id": text_of(DESK_ID),
        "name": name,
        "application": "message",
        "size": 2048,
        "sent_at": encode_time(STARTED),
        "expires_at": encode_time(STARTED + 604_800),
        "state": state,
        "kept_by": list(kept_by),
    }


def peer(peer_id: bytes, name: str, link: str = "up", **changes: Any) -> dict[str, Any]:
    up = link == "up"
    entry = {
        "peer_id": text_of(peer_id),
        "short_id": short(peer_id),
        "name": name,
        "admin": up,
        "may_introduce": True,
        "link": link,
        "link_id": 7 if up else None,
        "path": PATH if up else None,
        "traffic": TRAFFIC if up else None,
        "via": [] if up else ["desk"],
        "reachable": True,
        "rtt": 0.0123 if up else None,
        "loss": 0.02 if up else None,
        "since": encode_time(STARTED) if up else None,
        "seen": encode_time(STARTED + 5),
        "push_until": encode_time(STARTED + 129_600),
        "version": "0.1.0",
        "last_error": None,
        "last_error_detail": None,
        "last_error_at": None,
    }
    return entry | changes


def message(number: int, body: bytes, name: str = "desk") -> dict[str, Any]:
    return {
        "message_id": text_of(number.to_bytes(16, "big")),
        "peer_id": text_of(DESK_ID),
        "name": name,
        "application": "message",
        "body": encode_bytes(body),
        "sent_at": encode_time(STARTED),
        "received_at": encode_time(STARTED + 0.25),
    }


def find(name: str) -> tuple[bytes, str]:
    if name == "desk" or (len(name) > 3 and text_of(DESK_ID).startswith(name)):
        return DESK_ID, "desk"
    if name == "d":
        raise ControlError(Code.PEER_AMBIGUOUS, "'d' fits desk and den.")
    raise ControlError(Code.PEER_UNKNOWN, f"{name!a}.")
