"""The one table of control methods: dispatch checks, permissions, help texts and ``docs/control-api.md`` come from it.

``shapes`` says what the kinds of parameters and fields are.

Named tuples rather than dataclasses: ``meshctl`` imports this, and ``import dataclasses`` alone takes 12 ms.
"""

from __future__ import annotations

from meshd.control import jsonrpc
from meshd.control.administration_methods import ADMINISTRATION
from meshd.control.capability_methods import CAPABILITIES
from meshd.control.entries import ADMIN as ADMIN
from meshd.control.entries import MAX_TIMEOUT, PEER, SEQ
from meshd.control.entries import PERMISSIONS as PERMISSIONS
from meshd.control.entries import READ as READ
from meshd.control.entries import WRITE as WRITE
from meshd.control.entries import Method as Method
from meshd.control.entries import Notice as Notice
from meshd.control.entries import Param as Param
from meshd.control.key_methods import KEYS
from meshd.control.message_methods import DEFAULT_SEND_TIMEOUT as DEFAULT_SEND_TIMEOUT
from meshd.control.message_methods import MAX_BODY_SIZE as MAX_BODY_SIZE
from meshd.control.message_methods import MESSAGES
from meshd.control.pasting_methods import PASTING
from meshd.control.shapes import SHAPES, Field
from meshd.control.way_methods import WAYS

# Policy
PROTOCOL: int = jsonrpc.PROTOCOL
DEFAULT_INTRODUCTION_LIFETIME = 43_200.0  # seconds: 12 h, what a push capability in a token is good for
MAX_INTRODUCTION_LIFETIME = 31_536_000.0  # seconds: a year; the daemon cuts it to what its push service allows
DEFAULT_JOIN_TIMEOUT = 60.0  # seconds: two pushes are often seconds late, and ICE may need another description
DEFAULT_PING_TIMEOUT = 5.0  # seconds
DEFAULT_PROBE_TIMEOUT = 2.0  # seconds: four datagrams, the last of them answered from far away
DEFAULT_STREAM_TIMEOUT = 10.0  # seconds for the peer to take a stream or not
MAX_PARAMETERS_SIZE = 1_024  # bytes that go with the wish for a stream


def _table(*methods: Method) -> dict[str, Method]:
    table: dict[str, Method] = {}
    for method in methods:
        noun, dot, verb = method.name.partition(".")
        if not (noun and dot and verb) or method.name in table or method.permission not in PERMISSIONS:
            raise ValueError(f"{method.name}: not noun.verb, or there already, or of unknown permission")
        for entries in (method.params, method.result):
            names = [entry.name for entry in entries]
            if len(set(names)) != len(names):
                raise ValueError(f"{method.name}: a name stands twice")
        table[method.name] = method
    return table


_NAME = "1 to 32 of a-z, 0-9, '.', '-', '_', with a letter or digit at both ends; unique in the mesh."
_OWN_NAME = Param(
    "name", "string", f"This node's name: {_NAME} Made from the host name if left out.", False, low=1, high=64
)
_STREAM_SOCKET = "A stream socket (one end of a socketpair), or a pipe for one way."
_APPLICATION = Param("application", "string", "What the stream is for: both sides name the same.", low=1, high=32)
_STREAM = (
    Field("stream", "integer", "The stream's number at this daemon, for `streams.wait`."),
    Field("peer_id", "id", "Who is at the other end."),
    Field("name", "string", "Its name."),
    Field("application", "string", "What the stream is for."),
)

METHODS = _table(
    Method("node.status", READ, "How this node is.", (), SHAPES["status"], {}),
    Method(
        "node.version",
        READ,
        "What runs here.",
        (),
        (
            Field("version", "string", "Of the daemon."),
            Field("protocol", "integer", "Of this socket."),
            Field("peer_id", "id", "This node's id."),
        ),
        {},
    ),
    Method(
        "node.metrics",
        READ,
        "All counters and measures of this daemon.",
        (),
        (Field("text", "string", "In Prometheus' text format, version 0.0.4. See docs/metrics.md."),),
        {},
    ),
    Method(
        "node.rename",
        ADMIN,
        "Give this node, or as an admin of the mesh another member, a new name.",
        (
            Param("name", "string", f"The new name: {_NAME}", low=1, high=64),
            PEER._replace(doc="Whom to rename, if not this node.", required=False),
        ),
        (Field("peer_id", "id", "Who was renamed."), Field("name", "string", "The name it has now.")),
        {"name": "desk"},
    ),
    Method(
        "mesh.found",
        ADMIN,
        "Found a mesh with this node as its first member and admin. The mesh key signs the admin's certificate and is "
        "then forgotten: whoever calls this must have stored it safely before.",
        (
            Param("mesh_name", "string", "What to call the mesh.", low=1, high=64),
            Param("mesh_key", "bytes", "A fresh random Ed25519 seed.", low=32, high=32),
            _OWN_NAME,
        ),
        (
            Field("mesh_id", "id", "The mesh's public key."),
            Field("mesh_name", "string", "Its name."),
            Field("peer_id", "id", "This node's id."),
            Field("name", "string", "This node's name."),
        ),
        {"mesh_name": "home", "name": "desk", "mesh_key": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"},
    ),
    Method(
        "mesh.join",
        ADMIN,
        "Join a mesh with an introduction token. Answers when the first link is up, or says why it is not.",
        (
            Param("token", "string", "As minted; line breaks and quotes around it do no harm.", low=1, high=65_536),
            _OWN_NAME,
            Param("timeout", "seconds", "How long to try.", False, DEFAULT_JOIN_TIMEOUT, 0.1, MAX_TIMEOUT),
        ),
        (
            Field("mesh_id", "id", "The mesh's public key."),
            Field("mesh_name", "string", "Its name."),
            Field("peer_id", "id", "This node's id."),
            Field("name", "string", "The name this node was admitted under."),
            Field("introducer", "introducer", "Who admitted it."),
            Field("elapsed", "seconds", "How long it took."),
            Field("pushes_sent", "integer", "Push messages this node sent for it."),
            Field("pushes_received", "integer", "Push messages this node received for it."),
            Field("warnings", "[string]", "What may go wrong later, a sentence each."),
        ),
        {"token": "meshd1_…", "name": "laptop"},
    ),
    Method(
        "mesh.leave",
        ADMIN,
        "Leave the mesh: tell the others, close the links, forget the admission. The node keeps its id.",
        (),
        (Field("mesh_id", "id", "The mesh that was left."),),
        {},
    ),
    Method(
        "peers.list",
        READ,
        "Every other member of the mesh.",
        (),
        (Field("peers", "[peer]", "By name."),),
        {},
    ),
    Method(
        "peers.ping",
        WRITE,
        "Send a probe to a member and wait for its answer.",
        (PEER, Param("timeout", "seconds", "How long to wait.", False, DEFAULT_PING_TIMEOUT, 0.01, MAX_TIMEOUT)),
        (
            Field("peer_id", "id", "Who answered."),
            Field("name", "string", "Its name."),
            Field("rtt", "seconds", "There and back."),
            Field("via", "[string]", "Names of the relays on the way; empty over a direct link."),
        ),
        {"peer": "laptop"},
    ),
    *MESSAGES,
    Method(
        "streams.open",
        WRITE,
        "Open a byte stream to a member that waits for one with `streams.accept`; without a link to it, over others, "
        "sealed from end to end. The daemon copies between the stream and the descriptor, both ways. Shut the writing "
        "half down at the end of what you send, and keep this connection until the stream has ended; closing either "
        "before breaks the stream off.",
        (
            PEER,
            _APPLICATION,
            Param(
                "parameters", "bytes", "What the other side is told with it.", False, low=0, high=MAX_PARAMETERS_SIZE
            ),
            Param("timeout", "seconds", "How long to wait for it.", False, DEFAULT_STREAM_TIMEOUT, 0.01, MAX_TIMEOUT),
        ),
        _STREAM,
        {"peer": "laptop", "application": "backup"},
        descriptor=_STREAM_SOCKET,
    ),
    Method(
        "streams.accept",
        WRITE,
        "Take one stream of an application, the next that a member opens. Whoever wants more asks again. As with "
        "`streams.open`, the daemon then copies between the link and the descriptor.",
        (
            _APPLICATION,
            PEER._replace(doc="From whom, if not from any member.", required=False),
            Param("timeout", "seconds", "How long to wait for one; else for ever.", False, None, 0.01, MAX_TIMEOUT),
        ),
        (*_STREAM, Field("parameters", "bytes", "What the other side has told with it.")),
        {"application": "backup"},
        descriptor=_STREAM_SOCKET,
    ),
    Method(
        "streams.wait",
        WRITE,
        "Wait for the end of a stream; of one that has ended lately, say how.",
        (Param("stream", "integer", "The stream's number.", low=1, high=2**53),),
        (
            *_STREAM,
            Field(
                "reason",
                "done|closed_here|closed_by_peer|withdrawn|failed_here|failed_there|link_lost",
                "`done`: all that both sides sent has been handed to the other. Otherwise bytes may be missing.",
            ),
            Field("sent_size", "integer?", "Bytes read from the descriptor."),
            Field("received_size", "integer?", "Bytes written to it."),
            Field("elapsed", "seconds", "How long it was open."),
        ),
        {"stream": 1},
    ),
    *WAYS,
    *PASTING,
    *ADMINISTRATION,
    *KEYS,
    *CAPABILITIES,
    Method(
        "introductions.mint",
        ADMIN,
        "Make an introduction token: whoever has it can join the mesh, so hand it over in private.",
        (
            Param(
                "lifetime",
                "seconds",
                "For how long it is good. A push service may allow less; see `expires_at`.",
                False,
                DEFAULT_INTRODUCTION_LIFETIME,
                1.0,
                MAX_INTRODUCTION_LIFETIME,
            ),
            Param("uses", "integer", "How many can join with it.", False, 1, 1, 1_000),
            Param("label", "string", "A note for the list.", False, low=0, high=200),
            Param(
                "by_hand",
                "boolean",
                "Good for `links.offer` alone: offers and answers are carried by people, no push service is needed.",
                False,
                False,
            ),
        ),
        (
            Field("token", "string", "The token. It is not stored and cannot be shown again."),
            Field("introduction_id", "id", "Its public name."),
            Field("expires_at", "time", "Until when it can be used."),
            Field("uses", "integer", "How many can join with it."),
            Field("warnings", "[string]", "What makes it unlikely to work, a sentence each."),
        ),
        {"lifetime": 3600, "label": "for the laptop"},
    ),
    Method(
        "introductions.list",
        READ,
        "Tokens minted here, newest first.",
        (),
        (Field("introductions", "[introduction]", "All that are remembered."),),
        {},
    ),
    Method(
        "introductions.revoke",
        ADMIN,
        "Make a token worthless at once.",
        (Param("introduction_id", "string", "The token's public name, as in the list.", low=1, high=64),),
        (
            Field("introduction_id", "id", "The token's public name."),
            Field("state", "used|expired|revoked", "What it is now."),
        ),
        {"introduction_id": "aebagbafaydqq"},
    ),
    Method(
        "events.subscribe",
        READ,
        "What happens, as it happens: first how things are, then each change.",
        (),
        (),
        {},
        (
            Notice(
                "snapshot",
                (
                    SEQ,
                    Field("status", "status", "As `node.status`."),
                    Field("peers", "[peer]", "As `peers.list`."),
                ),
                "How things are. Comes first, once.",
            ),
            Notice(
                "event",
                (
                    SEQ,
                    Field("name", "string", "What happened, as in the log."),
                    Field("time", "time", "When."),
                    Field("fields", "{any}", "The particulars, as in the log."),
                ),
                "One thing that happened.",
            ),
        ),
    ),
    Method(
        "net.check",
        WRITE,
        "Find out what this machine's network lets through: ask the router, and STUN servers that the request, the "
        'configuration (with `ice = "stun"` or `"turn"`) and the mesh name. One at a time; takes some seconds.',
        (
            Param("servers", "[string]", "`HOST:PORT` of further STUN servers to ask.", False, low=0, high=8),
            Param("timeout", "seconds", "How long a round takes; up to 7.", False, DEFAULT_PROBE_TIMEOUT, 0.1, 10),
        ),
        (
            Field("ipv4", "network", "What IPv4 is like from here."),
            Field("ipv6", "network", "What IPv6 is like from here."),
            Field("port_mapping", "[router]", "The routers of this machine."),
            Field("servers", "[stun_server]", "Everybody who was asked."),
            Field(
                "verdict",
                "direct|probably_direct|through_others|unknown",
                "How two nodes, each in a network like this one, would be connected.",
            ),
            Field("expectation", "string", "The same in a sentence."),
            Field("unknown", "[string]", "What could not be found out, and why, a sentence each."),
        ),
        {"servers": ["stun.example.org:3478"]},
    ),
    Method(
        "config.show",
        READ,
        "The configuration in force, without secrets.",
        (),
        (
            Field("file", "string?", "The file it was read from."),
            Field("values", "{{any}}", "By section and key, defaults filled in."),
        ),
        {},
    ),
)

# Notifications that any connection may get
HELLO = Notice(
    "hello",
    (
        Field("protocol", "integer", "Of this socket. A client that speaks another one should stop."),
        Field("version", "string", "Of the daemon."),
        Field("peer_id", "id", "This node's id."),
    ),
    "The first line from the daemon on every connection.",
)
LAGGED = Notice(
    "lagged",
    (Field("method", "string", "The subscription that was too slow."),),
    "The client did not read fast enough; notifications are lost and the connection is closed. Subscribe again.",
)
