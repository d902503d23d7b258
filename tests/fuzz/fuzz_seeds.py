"""Where the fuzzers begin: what well-behaved senders write, for each target."""

from __future__ import annotations

import struct
from dataclasses import replace

import fuzz_targets as targets

from meshd.crypto.suite import RealSuite
from meshd.ids import Now, SessionId
from meshd.links import consent
from meshd.portmap import igd, nat_pmp, pcp
from meshd.transport import chunks
from meshd.transport.association import Association
from meshd.transport.config import AssociationConfig
from meshd.wire import envelope, frame, messages, paste, sdp, session_description, stun
from meshd.wire.session_description import Candidate, SessionDescription


def cut(body: bytes) -> bytes:
    """As ``Cuts.piece`` reads it."""
    return bytes([len(body) // 4]) + body[: len(body) // 4 * 4]


def packets_of_a_conversation() -> list[bytes]:
    """Bodies of packets that one end sends the other, from INIT on."""
    said: list[bytes] = []
    config = AssociationConfig()
    ends = [Association(config, tag=targets.TAGS[i], initial_tsn=1000, cookie_key=bytes(32), now=0.0) for i in range(2)]
    ends[0].connect(0.0)
    now = 0.0
    for turn in range(8):
        if turn == 3:
            ends[0].send(0, 53, bytes(300))
            ends[0].send(1, 50, struct.pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x")
            ends[0].reset_stream(1)
        if turn == 6:
            ends[0].shutdown()
        for index, (one, other) in enumerate((ends, ends[::-1])):
            for packet in one.transmit(now):
                if index == 0:
                    said.append(packet[12:])
                other.receive(packet, now)
        now += 0.3
        for end in ends:
            end.handle_timer(now)
    return [body for body in said if len(body) < 1_000]


def sctp() -> tuple[list[bytes], list[bytes]]:
    """Sequences, and chunk bodies."""
    bodies = packets_of_a_conversation()
    data = chunks.padded(chunks.DATA_HEADER.pack(chunks.DATA, 3, 24, 1000, 0, 0, 53) + bytes(8))
    idata = [
        chunks.padded(chunks.I_DATA_HEADER.pack(chunks.I_DATA, flags, 24, 1000 + n, n % 3, 0, 0, n) + bytes(4))
        for n, flags in enumerate((2, 0, 1, 7, 6, 5))
    ]
    sacks = [chunks.encode_sack(999, 5000, [], []), chunks.encode_sack(999, 0, [(2, 3), (5, 9)], [4])]
    skips = [chunks.encode_forward_tsn(1005, [(0, False, 3), (1, True, 2)], kind) for kind in (True, False)]
    reset = struct.pack(">LLL", 1000, 1000, 999) + b"\0\1\0\2"
    others = [
        chunks.encode_chunk(chunks.HEARTBEAT, chunks.encode_parameter(1, bytes(8))),
        chunks.encode_chunk(chunks.RE_CONFIG, chunks.encode_parameter(13, reset)),
        chunks.encode_chunk(chunks.ABORT, chunks.encode_parameter(12, b"why")),
        chunks.encode_chunk(0xC5, b"what"),
        chunks.encode_chunk(chunks.SHUTDOWN, (999).to_bytes(4)),
    ]
    every = [*bodies, data, *idata, *sacks, *skips, *others]
    sequences = [
        b"\0" + b"".join(b"\0" + cut(body) for body in bodies),
        b"\4" + b"".join(b"\0" + cut(body) for body in bodies),
        b"\3" + b"".join(b"\0" + cut(body) for body in idata),
        b"\3\xa5\xff\xa4\x10" + b"".join(b"\0" + cut(body) + b"\xff\x08" for body in [*sacks, *skips, *others]),
        b"\2" + b"".join(b"\0" + cut(body) for body in (data, *sacks, skips[1], others[1])),
    ]
    return sequences, [*every, *(body[4:] for body in every)]


DESCRIPTION = SessionDescription(
    ufrag="abcd",
    pwd="p" * 24,
    fingerprint=bytes(range(32)),
    setup="actpass",
    candidates=(
        Candidate("host", "192.0.2.7", 4242),
        Candidate("srflx", "203.0.113.9", 999),
        Candidate("host", "2001:db8::7", 4242),
        Candidate("host", "0a1b2c3d-0000-4000-8000-1234567890ab.local", 9),
    ),
)
ANSWER = replace(DESCRIPTION, setup="active")


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    sequences, bodies = sctp()
    attributes = consent.attribute(consent.USERNAME, b"abcd:efgh") + consent.attribute(consent.PRIORITY, bytes(4))
    asked = stun.encode(stun.BindingRequest(bytes(12)))
    stuns = [asked, consent.sealed(1, bytes(12), attributes, b"key")]
    stuns.append(consent.sealed(0x101, bytes(12), consent.mapped_address(("203.0.113.7", 9), bytes(12)), b"key"))
    record = b"\x17\xfe\xfd\x00\x01" + bytes(19)
    hello = b"\x16\xfe\xff\x00\x00" + bytes(19)
    claims = b"".join(bytes([n, n * 7]) for n in range(20))
    demux = [
        claims + b"".join(b"\xa0" + bytes([n * 7]) + cut(packet) for n, packet in enumerate([record, hello, *stuns])),
        claims + b"".join(bytes([70, n]) for n in range(6)),
    ]
    said = [
        *frame.fragment(bytes(40), 0),
        frame.encode_datagram(b"beat", 0),
        frame.encode_data(1, 0, b"twelve bytes", priority=2),
        frame.encode_data(1, 12, b"", priority=2, last=True),
        frame.encode_credit(1, 70_000, priority=1),
        frame.encode_reset(1, 0, priority=2),
        frame.encode_frame(frame.Frame(0, 1, True, 0, b"a piece, more to follow")),
    ]
    suite = RealSuite(b"o" * 32, b"p" * 32)
    letter = envelope.seal(
        suite,
        targets.MESH,
        targets.SUITE.peer_id,
        targets.SUITE.sealing_key,
        session=SessionId(b"session!"),
        sequence=1,
        body=messages.encode_message(messages.ApplicationMessage(bytes(16), "message", 0, 9, b"hello")),
        now=Now(0.0, 1_800_000_000.0),
    )
    message = messages.encode_message(messages.ApplicationMessage(bytes(16), "message", 0, 9, b"hello"))
    service = igd.Service("urn:schemas-upnp-org:service:WANIPConnection:1", targets.AT)
    xml = igd.encode_action(service, "AddPortMapping", igd.add_mapping("192.0.2.7", 1, 2, 3))[1]
    root = (
        b"<?xml version='1.0'?><root xmlns='urn:schemas-upnp-org:device-1-0'><device><serviceList><service>"
        b"<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ctl</controlURL>"
        b"</service></serviceList></device></root>"
    )
    found = (
        b"HTTP/1.1 200 OK\r\nLOCATION: http://192.0.2.1:5000/root.xml\r\n"
        b"ST: urn:schemas-upnp-org:service:WANIPConnection:1\r\n\r\n"
    )
    asking = pcp.encode_map("192.0.2.7", bytes(12), 1, 60, ("203.0.113.7", 2))
    return {
        "sctp_sequence": sequences,
        "sctp_chunks": bodies,
        "stun_codec": stuns,
        "demultiplexer": demux,
        "frames": [b"".join(cut(one + bytes(-len(one) % 4)) for one in said), *(cut(one) for one in said)],
        "description": [session_description.encode(DESCRIPTION)],
        "sdp_text": [sdp.to_sdp(DESCRIPTION, "offer").encode(), sdp.to_sdp(ANSWER, "answer").encode()],
        "sealed": [letter, message],
        "token": [paste.encode_signal(kind, letter).encode() for kind in ("offer", "answer")],
        "router": [
            bytes([2, 0x81, 0, 0]) + asking[4:],
            bytes([0, 0x81, 0, 0]) + bytes(12),
            nat_pmp.encode_map(1, 2, 3),
            xml,
            root,
            found,
        ],
    }
