"""The control methods for admins: revoking members, appointing and removing admins."""

from __future__ import annotations

from meshd.control.entries import ADMIN, PEER, READ, Method, Param
from meshd.control.shapes import Field

_MESH_KEY = Param(
    "mesh_key",
    "bytes",
    "The mesh key: the 32 bytes that `mesh.found` was called with. It signs, and is then forgotten.",
    low=32,
    high=32,
)

ADMINISTRATION: tuple[Method, ...] = (
    Method(
        "members.revoke",
        ADMIN,
        "Take a member's admission away, for good: all members drop its links, take back what it could push with, and "
        "refuse it from then on, whatever it signs and however it dates it. Needs an admin, or the mesh key; an admin "
        "is revoked only with the mesh key.",
        (
            PEER._replace(doc="A member as elsewhere; or the whole id of a key that is no member's now."),
            Param(
                "since",
                "time",
                "Whom it admitted, directly or through others, is kept if that was known here by then; everybody who "
                "is known here, if left out.",
                False,
            ),
            Param("all", "boolean", "Keep nobody whom it admitted.", False, False),
            _MESH_KEY._replace(required=False),
            Param("preview", "boolean", "Only say what would happen.", False, False),
        ),
        (
            Field("peer_id", "id", "Who is revoked."),
            Field("name", "string", "Its name; empty if it is not known here."),
            Field("admin", "boolean", "Whether it was an admin."),
            Field("member", "boolean", "Whether it was a member, as far as is known here."),
            Field("done", "boolean", "False for a preview."),
            Field("kept", "[dependant]", "Members whom it admitted, and who stay; admins renew them."),
            Field("fallen", "[dependant]", "Members whom it admitted, and who fall with it."),
        ),
        {"peer": "laptop", "since": "2025-03-01T09:00:00.000Z"},
    ),
    Method(
        "revocations.list",
        READ,
        "What has been revoked in this mesh, oldest first. Kept until nothing that it concerns could be alive.",
        (),
        (Field("revocations", "[revocation]", "All that count."),),
        {},
    ),
    Method(
        "admins.list",
        READ,
        "The admins of the mesh.",
        (),
        (Field("admins", "[admin]", "By name."),),
        {},
    ),
    Method(
        "admins.appoint",
        ADMIN,
        "Make a member, or this node, an admin. The member has to be reachable. Answers when it has taken it.",
        (PEER, _MESH_KEY),
        (Field("peer_id", "id", "Who is an admin now."), Field("name", "string", "Its name.")),
        {"peer": "desk", "mesh_key": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"},
    ),
    Method(
        "admins.remove",
        ADMIN,
        "Take an admin's rights away. It stays a member, and what it has admitted and revoked so far stays as it is. "
        "For a stolen one see `members.revoke`.",
        (PEER, _MESH_KEY),
        (
            Field("peer_id", "id", "Who is no admin any more."),
            Field("name", "string", "Its name."),
            Field("admins_left", "integer", "How many there are now."),
        ),
        {"peer": "desk", "mesh_key": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"},
    ),
)
