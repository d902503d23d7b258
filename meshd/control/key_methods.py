"""The control methods for this node's keys."""

from __future__ import annotations

from meshd.control.entries import ADMIN, READ, Method, Param
from meshd.control.shapes import Field

_SEALING = (
    Field("sealing_key", "sealing_key", "What others seal envelopes to this node with."),
    Field("former_sealing_keys", "[former_sealing_key]", "Those that still open what is sealed to them, newest first."),
    Field("certificate", "certificate?", "Of the links that begin now; null while the daemon starts."),
)

KEYS: tuple[Method, ...] = (
    Method(
        "keys.show",
        READ,
        "The public parts of this node's keys, and how old they are.",
        (),
        (Field("peer_id", "id", "This node's id: its public signing key, which never changes."), *_SEALING),
        {},
    ),
    Method(
        "keys.rotate",
        ADMIN,
        "Make new keys: for sealing, for the certificate of links that begin from now on, and for push. Nothing is cut "
        "off: what members hold of the former ones serves until they have heard of the new ones.",
        (Param("push", "boolean", "Whether to make new push subscriptions and VAPID keys, too.", False, True),),
        (*_SEALING, Field("push_holders", "integer", "How many members are given a new push subscription.")),
        {},
    ),
)
