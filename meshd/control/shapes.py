"""What stands in parameters, results and notifications: the kinds, and the objects that occur in several places.

Kinds are short texts, since they stand in the document as they are:

====================  ====================================================================================
``string``            text; for a parameter ``low`` and ``high`` bound its length in characters
``boolean``           true or false
``integer``           a whole number; ``low`` and ``high`` bound it
``number``            a finite number
``seconds``           a duration, a finite number; ``low`` and ``high`` bound it
``time``              RFC 3339 in UTC with milliseconds: ``2025-03-01T12:00:00.000Z``
``bytes``             base64url without padding; ``low`` and ``high`` bound the decoded size
``id``                base32, lower case, without padding (``meshd.ids.text_of``)
``any``               whatever JSON can say
``up|none``           one of these texts
``peer``              a shape: an object with the fields that ``SHAPES`` lists
``[kind]``            a list of it; for a parameter ``low`` and ``high`` bound its length
``{kind}``            an object with any keys and such values
``kind?``             it, or null
====================  ====================================================================================
"""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """One field of a result, a notification or a shape.

    All fields are always present; ``?`` marks those that may be null.
    """

    name: str
    kind: str
    doc: str


AUDIT_KINDS = "issued|renewed|used|lent|taken_back|refused|changed"

SHAPES: dict[str, tuple[Field, ...]] = {
    "mesh": (
        Field("id", "id", "The mesh's public key."),
        Field("name", "string", "Its name."),
        Field("admin", "boolean", "Whether this node is an admin of it."),
    ),
    "push": (
        Field("service", "string", "Origin of the push service."),
        Field("state", "connected|connecting|down|off", "Whether this node can be reached through it."),
        Field("detail", "string", "What is wrong, if something is; may be empty."),
        Field("channels", "integer", "Push subscriptions kept there."),
        Field("limits", "[string]", "What it cannot do of what push services do, a phrase each."),
        Field("test", "ok|dead|lost|refused|down?", "How the last push to ourselves went, of two the worse."),
        Field("tested_at", "time?", "When that was."),
        Field("round_trip", "seconds?", "How long it took, there and back."),
    ),
    "inbox": (
        Field("unread", "integer", "Messages that nobody has read yet."),
        Field("size", "integer", "Bytes they take."),
    ),
    "outbox": (
        Field("queued", "integer", "Messages not acknowledged yet."),
        Field("deposited", "integer", "Those of them that keepers have."),
    ),
    "kept": (
        Field("messages", "integer", "Sealed messages and receipts that are kept here for others."),
        Field("size", "integer", "Bytes of them."),
    ),
    "outgoing": (
        Field("message_id", "id", "Its id."),
        Field("peer_id", "id", "To whom it goes."),
        Field("name", "string", "Its name."),
        Field("application", "string", "What it is for."),
        Field("size", "integer", "Bytes of its body."),
        Field("sent_at", "time", "When it was sent."),
        Field("expires_at", "time", "When it is given up; one that keepers have, a day later."),
        Field("state", "deposited|queued", "`deposited`: keepers have it."),
        Field("kept_by", "[string]", "Names of those that have said so."),
    ),
    "status": (
        Field(
            "state",
            "no_mesh|joining|member|revoked",
            "How far this node is. `revoked`: it was a member, until its admission was revoked; `warnings` say more.",
        ),
        Field("version", "string", "Of the daemon."),
        Field("protocol", "integer", "Of this socket."),
        Field("peer_id", "id", "This node's id: its public key."),
        Field("short_id", "string", "The first characters of it."),
        Field("name", "string?", "This node's name in the mesh."),
        Field("mesh", "mesh?", "The mesh it belongs to."),
        Field("started_at", "time", "When the daemon started."),
        Field("uptime", "seconds", "How long ago that was."),
        Field(
            "twin",
            "kept|aside?",
            "Another daemon with this node's identity has shown itself; `aside`: it was there first, so this one keeps "
            "still; `kept`: the other one is to.",
        ),
        Field("links", "integer", "Links that are up."),
        Field("members", "integer", "Members of the mesh, this one among them; 0 without a mesh."),
        Field("push", "[push]", "The push services this node receives from."),
        Field("inbox", "inbox", "Messages that came."),
        Field("outbox", "outbox", "Messages on their way."),
        Field("kept", "kept", "What is kept here for members that are away."),
        Field("warnings", "[string]", "What somebody should look after, a sentence each."),
        Field("counters", "{integer}", "Counts since the start, by name."),
    ),
    "path": (
        Field("kind", "host|srflx|prflx|relay?", "Kind of our ICE candidate in use."),
        Field("remote_kind", "host|srflx|prflx|relay?", "Kind of theirs."),
        Field("local", "string", "Our address and port."),
        Field("remote", "string", "Theirs."),
    ),
    "traffic": (
        Field("age", "seconds", "How long ago the link connected."),
        Field("rtt", "seconds?", "Round trip of packets, if known; `rtt` of the peer is that of heartbeats."),
        Field("min_rtt", "seconds?", "The shortest there was lately."),
        Field("packets_sent", "integer", "Packets with data, those sent again among them."),
        Field("packets_received", "integer", "Packets with data."),
        Field("packets_lost", "integer", "Of those sent."),
        Field("packets_retransmitted", "integer", "Sent again."),
        Field("sent_size", "integer", "Bytes of messages and streams."),
        Field("received_size", "integer", "Bytes of messages and streams."),
        Field("send_rate", "number", "Bytes a second, over the last seconds."),
        Field("receive_rate", "number", "Bytes a second, over the last seconds."),
        Field("buffered_size", "integer", "Bytes that wait to be sent or acknowledged."),
        Field("window_size", "integer", "Bytes that may be under way at a time, by congestion control."),
        Field("packet_size", "integer", "Bytes of the largest packet that is sent now."),
    ),
    "peer": (
        Field("peer_id", "id", "The member's id."),
        Field("short_id", "string", "The first characters of it."),
        Field("name", "string", "Its name in the mesh."),
        Field("admin", "boolean", "Whether it is an admin."),
        Field("may_introduce", "boolean", "Whether it may admit others."),
        Field("link", "up|connecting|none", "The direct link between us."),
        Field("link_id", "integer?", "Its number in the log, if it is up."),
        Field("path", "path?", "How the link runs, if it is up."),
        Field("traffic", "traffic?", "What the link carries, if it is up."),
        Field("via", "[string]", "Names of the relays on the way, if there is no direct link."),
        Field("reachable", "boolean", "Whether a message would find a way now."),
        Field("rtt", "seconds?", "Round trip of heartbeats, if known."),
        Field("loss", "number?", "Share of the last hundred or so heartbeats that were not answered: 0 to 1."),
        Field("since", "time?", "When the link came up."),
        Field("seen", "time?", "When it last gave a sign of life."),
        Field("push_until", "time?", "Until when we can push to it."),
        Field("version", "string?", "Of its daemon."),
        Field("last_error", "string?", "Why the last link was lost, or the last attempt at one failed."),
        Field("last_error_detail", "string?", "The same in a sentence, where the addresses of both sides tell."),
        Field("last_error_at", "time?", "When that was; there may have been a link since."),
    ),
    "member": (
        Field("peer_id", "id", "Its id."),
        Field("short_id", "string", "The first characters of it."),
        Field("name", "string", "Its name in the mesh."),
        Field(
            "state",
            "self|neighbor|reachable|unreachable",
            "`self`: this node; `neighbor`: there is a link; `reachable`: over others; `unreachable`: no way is known.",
        ),
        Field("hops", "integer?", "Links between this node and it; null if there is no way."),
        Field("before", "integer?", "Place in the list of the last relay on the way to it, if there is one."),
        Field("since", "time?", "When the link to it came up, if it is a neighbor."),
        Field("record_at", "time", "When it signed the newest record of itself that is known here: its last word."),
        Field("admin", "boolean", "Whether it is an admin."),
        Field("relays", "boolean", "Whether it forwards messages of others."),
        Field("keeps", "boolean", "Whether it keeps things for others (see docs/push.md, keepers)."),
        Field("version", "string?", "Of its daemon, if it is a neighbor."),
        Field("link", "graph_link?", "How the link runs, if it is a neighbor."),
    ),
    "graph_link": (
        Field("kind", "host|srflx|prflx|relay", "Kind of our ICE candidate in use."),
        Field("remote_kind", "host|srflx|prflx|relay", "Kind of theirs."),
        Field("family", "ipv4|ipv6?", "Of the addresses in use, if known."),
        Field("rtt", "seconds?", "Round trip of heartbeats, if known."),
        Field("loss", "number?", "Share of the last hundred or so heartbeats that were not answered: 0 to 1."),
    ),
    "hop": (
        Field("peer_id", "id", "Its id."),
        Field("name", "string", "Its name; empty if it is not known here."),
        Field("told", "boolean", "Whether the hop before has named it; else this node's own links or records do."),
        Field("rtt", "seconds?", "The shortest time there and back; null if it has not answered."),
        Field("rtts", "[seconds]", "All of them, in order."),
        Field("lost", "integer", "Questions that it has not answered."),
        Field("busy", "boolean", "Whether it says that its link to the next hop takes nothing more right now."),
    ),
    "message": (
        Field("message_id", "id", "Drawn by the sender, unique for ever."),
        Field("peer_id", "id", "The sender."),
        Field("name", "string", "The sender's name."),
        Field("application", "string", "What the sender said it is for."),
        Field("body", "bytes", "The message itself."),
        Field("sent_at", "time", "By the sender's clock."),
        Field("received_at", "time", "By ours."),
    ),
    "network": (
        Field(
            "udp",
            "open|silent|unknown|no_address",
            "Whether a server answered; `unknown` where none was asked, `no_address` without a network.",
        ),
        Field("local", "string?", "The address that packets leave from here."),
        Field("external", "string?", "Address and port that a server saw."),
        Field(
            "mapping",
            "none|endpoint_independent|address_dependent|address_and_port_dependent|dependent|unknown",
            "What decides about the port outside (RFC 5780); `none`: no NAT; `dependent`: differs from server to "
            "server, and none could tell by what.",
        ),
        Field(
            "filtering",
            "none|endpoint_independent|address_dependent|address_and_port_dependent|unknown",
            "Whom packets are let in from, once one has left.",
        ),
        Field("hairpin", "boolean?", "Whether this node reaches itself by its address outside."),
    ),
    "router": (
        Field("gateway", "string", "Its address."),
        Field("method", "pcp|nat_pmp|igd?", "What it was asked by with success."),
        Field("external", "string?", "Address and port that it lets in."),
        Field("trouble", "double_nat|carrier_nat|not_public?", "Why that is of no use."),
        Field("answers", "{string}", "For each protocol `yes`, `silent`, or why not."),
        Field("says", "string", "All of it in a sentence."),
    ),
    "stun_server": (
        Field("server", "string", "Host and port."),
        Field("source", "asked|configured|mesh", "Who named it: this request, the configuration, the mesh."),
        Field("family", "ipv4|ipv6", "How it was asked."),
        Field("address", "string?", "Where it was asked at."),
        Field("external", "string?", "What it saw of us."),
        Field("rtt", "seconds?", "How long its answer took."),
        Field("error", "silent|refused|unresolved|no_way?", "What went wrong."),
        Field("two_addresses", "boolean", "Whether it can tell what a NAT does (RFC 5780)."),
    ),
    "dependant": (
        Field("peer_id", "id", "The member's id."),
        Field("name", "string", "Its name."),
        Field("known_since", "time", "When its admission was signed, or came to be known here, if that was later."),
    ),
    "revocation": (
        Field("peer_id", "id", "Whose key was revoked."),
        Field("name", "string", "What it was called then; may be empty."),
        Field("scope", "member|admin", "All of it, or an admin's rights alone."),
        Field("by", "string?", "The admin's name or id; null: the mesh key."),
        Field("revoked_at", "time", "When."),
        Field("void_from", "time?", "What the key signed after that is void; null: all of it."),
        Field("kept", "integer", "How many admissions that it signed stay good."),
        Field("until", "time", "When the revocation may be forgotten."),
    ),
    "admin": (
        Field("peer_id", "id", "Its id."),
        Field("short_id", "string", "The first characters of it."),
        Field("name", "string", "Its name."),
        Field("this_node", "boolean", "Whether it is this node."),
        Field("appointed_at", "time", "When."),
        Field("expires_at", "time", "Until when."),
    ),
    "sealing_key": (
        Field("key", "bytes", "The public key (X25519)."),
        Field("made_at", "time?", "When it was made; null if nobody knows."),
    ),
    "former_sealing_key": (
        Field("key", "bytes", "The public key."),
        Field("retired_at", "time", "When another took its place."),
        Field("erased_at", "time", "When it will be erased: what is sealed to it cannot be opened afterwards."),
    ),
    "certificate": (
        Field("fingerprint", "bytes", "SHA-256 of the DTLS certificate."),
        Field("made_at", "time", "When it was made; another one follows after a day."),
    ),
    "introducer": (
        Field("peer_id", "id", "Its id."),
        Field("name", "string", "Its name."),
    ),
    "introduction": (
        Field("introduction_id", "id", "The public name of the token; the token itself is shown only once."),
        Field("label", "string?", "What whoever minted it wrote down."),
        Field("created_at", "time", "When it was minted."),
        Field("expires_at", "time", "Until when it can be used."),
        Field("uses_left", "integer", "How many can still join with it."),
        Field("state", "open|used|expired|revoked", "Whether it can still be used."),
        Field("joined", "[string]", "Names of those who joined with it."),
    ),
    "holder": (
        Field("holder_id", "id", "The member's id, or the public name of a token."),
        Field("kind", "member|token|introducer", "What it is; `introducer`: asked by this node to let it in."),
        Field("name", "string", "The member's name, or the token's label; may be empty."),
        Field("newcomer", "boolean", "Whether its subscriptions are apart from those of established members."),
        Field("services", "[string]", "The push services it can use."),
        Field("generation", "integer", "Of the subscriptions that it was given."),
        Field("given_until", "time?", "To when what it was given serves."),
        Field("taken_until", "time?", "To when what it has confirmed serves; tokens confirm nothing."),
    ),
    "held": (
        Field("peer_id", "id", "The member's id."),
        Field("name", "string", "Its name; empty if it is not known any more."),
        Field("services", "[string]", "Origins of its push services."),
        Field("generation", "integer", "Of its subscriptions."),
        Field("until", "time?", "Until when we can push to it; null: not even now."),
    ),
    "audit": (
        Field("time", "time", "When."),
        Field("kind", AUDIT_KINDS, "What became of it; `lent`: we have used it for another member, as its keeper."),
        Field("holder_id", "id?", "Whose; null: everybody's."),
        Field("name", "string", "Its name now; empty if it is not known any more, or a token's."),
        Field("service", "string", "The push services; may be empty."),
        Field("until", "time?", "To when what this is about serves."),
        Field("detail", "string", "Why; may be empty."),
    ),
    "push_test": (
        Field("service", "string", "The push service."),
        Field("newcomers", "boolean", "Whether it is about the user agent for tokens and members of a day."),
        Field(
            "outcome",
            "ok|dead|lost|refused|down",
            "`dead`: the service says that the subscription is no more; `lost`: taken and not delivered; `refused`: "
            "our capability is not taken (a wrong clock); `down`: no service.",
        ),
        Field("tested_at", "time", "When."),
        Field("accepted", "seconds?", "Until the service had taken it."),
        Field("delivered", "seconds?", "Until it was back here."),
        Field("detail", "string", "What went wrong; may be empty."),
    ),
}
