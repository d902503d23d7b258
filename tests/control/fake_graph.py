"""The mesh that a fake daemon shows as a whole: five machines, one of them behind others, one down."""

from __future__ import annotations

from typing import Any

from fake_values import DESK_ID, EVIL_ID, MESH_ID, OWN_ID, STARTED

from meshd.control.encodings import encode_time
from meshd.ids import short, text_of

LINK = {"kind": "host", "remote_kind": "srflx", "family": "ipv4", "rtt": 0.0123, "loss": 0.0}


def member(peer_id: bytes, name: str, state: str, **changes: Any) -> dict[str, Any]:
    near = state == "neighbor"
    entry = {
        "peer_id": text_of(peer_id),
        "short_id": short(peer_id),
        "name": name,
        "state": state,
        "hops": {"self": 0, "neighbor": 1, "reachable": 2, "unreachable": None}[state],
        "before": None,
        "since": encode_time(STARTED) if near else None,
        "record_at": encode_time(STARTED),
        "admin": state == "self",
        "relays": True,
        "keeps": near,
        "version": "meshd 0.1.0" if near else None,
        "link": LINK if near else None,
    }
    return entry | changes


def graph() -> dict[str, Any]:
    return {
        "mesh_id": text_of(MESH_ID),
        "mesh_name": "ho\x1b[1mme",
        "time": encode_time(STARTED),
        "members": [
            member(DESK_ID, "desk", "neighbor"),
            member(OWN_ID, "laptop", "self"),
            member(b"\x22" * 32, "nas", "neighbor"),
            member(b"\x33" * 32, "phone", "reachable", before=0),
            member(EVIL_ID, 'x\x1b[31m"]<script>\u202ey', "unreachable"),
        ],
        "links": [[0, 1], [0, 2], [0, 3], [1, 2]],
        "claims": [[4, 0], [4, 2]],
    }


def trace(peer_id: bytes, name: str, outcome: str) -> dict[str, Any]:
    hop = {"told": True, "rtt": 0.0042, "rtts": [0.0042, 0.005], "lost": 0, "busy": False}
    silent = {**hop, "rtt": None, "rtts": [], "lost": 2}
    hops = [
        {"peer_id": text_of(EVIL_ID), "name": "x\x1b[31my", **hop, "told": False},
        {"peer_id": text_of(b"\x22" * 32), "name": "nas", **silent},
        {"peer_id": text_of(peer_id), "name": name, **(hop if outcome == "arrived" else silent)},
    ]
    return {
        "peer_id": text_of(peer_id),
        "name": name,
        "outcome": outcome,
        "hops": hops if outcome in ("arrived", "silent") else hops[:2],
        "expected": ["nas"],
        "elapsed": 0.031,
    }
