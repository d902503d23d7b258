"""The control methods for messages: those that go, and those that come."""

from __future__ import annotations

from meshd.control.entries import MAX_TIMEOUT, PEER, SEQ, WRITE, Method, Notice, Param
from meshd.control.shapes import Field

# Policy
MAX_BODY_SIZE = 65_536  # of an application message: fits the 1 MiB line with room, and one data channel message
MAX_MESSAGES_LISTED = (
    1_000  # in one answer; the daemon also keeps answers to a few MB, and says by `unread` that more wait
)
DEFAULT_SEND_TIMEOUT = 10.0  # seconds to wait for the acknowledgement; the message stays queued beyond it

MESSAGES: tuple[Method, ...] = (
    Method(
        "messages.send",
        WRITE,
        "Send a message to one member. `acknowledged` means that it is stored at the other daemon; `deposited`, that "
        "the other one is away, and at least one keeper has stored it, sealed, and hands it over; `queued`, that this "
        "one has stored it and keeps trying.",
        (
            PEER,
            Param("body", "bytes", "The message; may be empty.", low=0, high=MAX_BODY_SIZE),
            Param("application", "string", "What it is for.", False, "message", 1, 64),
            Param("wait", "boolean", "Whether to wait; if not, the answer is `queued`.", False, True),
            Param(
                "until",
                "queued|deposited|acknowledged",
                "What to wait for. An answer may say more than was asked for: who is there acknowledges at once.",
                False,
                "acknowledged",
            ),
            Param("timeout", "seconds", "How long to wait.", False, DEFAULT_SEND_TIMEOUT, 0.01, MAX_TIMEOUT),
        ),
        (
            Field("message_id", "id", "The message's id."),
            Field("peer_id", "id", "To whom it goes."),
            Field("name", "string", "Its name."),
            Field("state", "acknowledged|deposited|queued", "Where it is."),
            Field("elapsed", "seconds", "How long it took to get there."),
            Field("kept_by", "[string]", "Names of the keepers that have said so far that they have it."),
        ),
        {"peer": "laptop", "body": "aGVsbG8"},
    ),
    Method(
        "messages.outbox",
        WRITE,
        "Messages of this node that are not acknowledged yet, oldest first.",
        (),
        (Field("messages", "[outgoing]", "All of them, without their bodies."),),
        {},
    ),
    Method(
        "messages.list",
        WRITE,
        "Unread messages, oldest first. Needs write, since messages are private.",
        (
            Param(
                "limit",
                "integer",
                "At most so many; fewer may come where they are large.",
                False,
                100,
                1,
                MAX_MESSAGES_LISTED,
            ),
        ),
        (
            Field("messages", "[message]", "The oldest unread ones."),
            Field("unread", "integer", "How many there are in all, those left out among them."),
        ),
        {"limit": 10},
    ),
    Method(
        "messages.read",
        WRITE,
        "Mark messages as read: they leave the inbox for good. Ids that are not there do no harm.",
        (Param("message_ids", "[id]", "Which.", low=0, high=MAX_MESSAGES_LISTED),),
        (Field("removed", "integer", "How many of them were there."),),
        {"message_ids": ["aaaqeayeaudaocajbifqydiob4"]},
    ),
    Method(
        "messages.subscribe",
        WRITE,
        "Unread messages, oldest first, then each message as it comes.",
        (),
        (Field("unread", "integer", "How many notifications follow at once."),),
        {},
        (Notice("message", (SEQ, Field("message", "message", "The message.")), "One unread message."),),
    ),
)
