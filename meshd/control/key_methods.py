"""The control methods for this node's keys."""

from __future__ import annotations

from meshd.control.entries import ADMIN, READ, Method, Param
from meshd.control.shapes import Field

_PASSPHRASE = Param("passphrase", "string", "What the file is encrypted with.", low=8, high=1024)
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
    Method(
        "identity.export",
        ADMIN,
        "Write this node, its identity and all it keeps, to a file, encrypted with a passphrase: as a backup, or to "
        "move it to another machine. With `move` this daemon stops, and starts no more as this node.",
        (_PASSPHRASE, Param("move", "boolean", "Whether the node moves away.", False, False)),
        (
            Field("peer_id", "id", "The node's id."),
            Field("size", "integer", "Bytes written."),
            Field("moved", "boolean", "Whether this daemon is ending."),
        ),
        {"passphrase": "correct horse battery"},
        descriptor="The file, open for writing.",
    ),
    Method(
        "identity.import",
        ADMIN,
        "Take in a node that was exported. This daemon, which must not belong to a mesh, becomes that node at its next "
        "start, and forgets its own identity.",
        (_PASSPHRASE,),
        (
            Field("peer_id", "id", "The id that it will have."),
            Field("rows", "integer", "Rows of its database that came along."),
        ),
        {"passphrase": "correct horse battery"},
        descriptor="The file, open for reading.",
    ),
)
