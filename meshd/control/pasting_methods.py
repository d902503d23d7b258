"""The control methods for offers, answers and calls by copy and paste."""

from __future__ import annotations

from meshd.control.entries import ADMIN, Method, Param
from meshd.control.shapes import Field

# Policy
MAX_PASTE_CHARS = 65_536  # of what a person pastes

_TEXT = Param(
    "text", "string", "As printed; line breaks and quotes around it do no harm.", False, low=1, high=MAX_PASTE_CHARS
)
_SDP = Param("sdp", "string", "Instead of a text: an SDP, as browsers make them.", False, low=1, high=MAX_PASTE_CHARS)
_PEER = Param(
    "peer",
    "string",
    "With an SDP: which member is at the other end. An SDP does not say, so you do; the hello on the link proves it.",
    False,
    low=1,
    high=128,
)
_TEXTS = (
    Field("text", "string", "To be pasted on the other machine."),
    Field("sdp", "string", "The same for a browser, unsigned. Empty where it would not do: with a token."),
    Field("peer_id", "id", "For whom it is."),
    Field("name", "string", "Its name; empty if that is not known here yet."),
    Field("expires_at", "time", "Until when this node waits."),
)

PASTING: tuple[Method, ...] = (
    Method(
        "links.offer",
        ADMIN,
        "Offer a link by copy and paste, to a member, or with an introduction token to its introducer. No push and no "
        "other network is used but the link's own. The offer stays open for ten minutes, not over a restart.",
        (
            _PEER._replace(doc="The member that will answer it."),
            Param("token", "string", "On a node without a mesh: the token to join with.", False, low=1, high=65_536),
            Param("name", "string", "With a token: the name to be admitted under.", False, low=1, high=64),
        ),
        _TEXTS,
        {"peer": "laptop"},
    ),
    Method(
        "links.answer",
        ADMIN,
        "Answer an offer that was pasted here. One that was made with a token of this node's admits its maker.",
        (_TEXT, _SDP, _PEER),
        _TEXTS,
        {"text": "meshd-offer1_…"},
    ),
    Method(
        "links.accept",
        ADMIN,
        "Take the answer to an offer of this node. Answers when the link is up, or says why it is not.",
        (_TEXT, _SDP, _PEER),
        (
            Field("peer_id", "id", "Who is at the other end: proved."),
            Field("name", "string", "Its name."),
            Field("mesh_name", "string", "The mesh's name."),
            Field("joined", "boolean", "Whether this node was admitted to the mesh by it."),
            Field("elapsed", "seconds", "How long it took."),
        ),
        {"text": "meshd-answer1_…"},
    ),
    Method(
        "calls.answer",
        ADMIN,
        "Answer a call that was pasted here: a push subscription with an offer, by a web page or whoever else has no "
        "token. Whoever calls is admitted, if it is no member, and answered by one push. Answers when the link is up.",
        (
            Param("text", "string", "As the caller wrote it: a text, or JSON.", low=1, high=MAX_PASTE_CHARS),
            Param("name", "string", "For a newcomer: its name, in place of what it wishes.", False, low=1, high=64),
            Param("preview", "boolean", "Only say who it is and what would be done.", False, False),
        ),
        (
            Field("peer_id", "id", "Who calls: proved by its signature."),
            Field("name", "string", "Its name; for a newcomer, the one that it gets."),
            Field("mesh_name", "string", "The mesh's name."),
            Field("admits", "boolean", "Whether it becomes, or would become, a member by it."),
            Field("services", "[string]", "In a preview: the push services that would be asked to carry the answer."),
            Field("linked", "boolean", "Whether there is a link to it now."),
            Field("elapsed", "seconds", "How long it took."),
        ),
        {"text": "meshd-call1_…"},
    ),
)
