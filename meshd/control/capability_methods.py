"""The control methods for capabilities and push subscriptions: who holds what, and whether it works."""

from __future__ import annotations

from meshd.control.entries import ADMIN, MEMBER, PEER, READ, WRITE, Method, Param
from meshd.control.shapes import AUDIT_KINDS, Field

# Policy
MAX_LISTED = 1_000  # entries of the audit trail in one answer

CAPABILITIES: tuple[Method, ...] = (
    Method(
        "capabilities.list",
        READ,
        "Who can push to this node and until when, and whom this node can push to.",
        (),
        (
            Field("generation", "integer", "Of this node's push subscriptions."),
            Field("given", "[holder]", "Who holds what of ours, the members first."),
            Field("held", "[held]", "What we hold of others, by name."),
        ),
        {},
    ),
    Method(
        "capabilities.audit",
        READ,
        "What became of capabilities of this node, as far as it can know; the newest first. 10,000 entries are kept.",
        (
            PEER._replace(doc=f"{MEMBER} Else everybody.", required=False),
            Param("kind", AUDIT_KINDS, "Only this.", False),
            Param("since", "seconds", "Only what is not older.", False, None, 0, 1e9),
            Param("limit", "integer", "At most so many.", False, 100, 1, MAX_LISTED),
        ),
        (
            Field("entries", "[audit]", "The newest first."),
            Field("kept", "integer", "How many entries there are in all."),
        ),
        {"peer": "laptop", "since": 86_400},
    ),
    Method(
        "push.test",
        WRITE,
        "Push to ourselves through every push service and wait for it to come back, a minute at most.",
        (),
        (Field("tests", "[push_test]", "How it went at each service."),),
        {},
    ),
    Method(
        "push.renew",
        ADMIN,
        "Make the push subscriptions of this node anew, with new keys, for one member or for all. They are told over "
        "the mesh; the old ones are listened to until they have taken the new ones, and for a day at least. Tokens "
        "stay as they are.",
        (PEER._replace(doc=f"{MEMBER} Else all.", required=False),),
        (
            Field("holders", "integer", "How many are to be told."),
            Field("generation", "integer", "Of the push subscriptions, from now on."),
        ),
        {"peer": "laptop"},
    ),
)
