"""What the fuzzers feed, by name: any bytes give a value or the one named error, nothing raises, and nothing grows.

Each target is a function of bytes. Whatever it raises is a finding..
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator

from meshd.crypto import identity
from meshd.crypto.admission import decode_chain
from meshd.crypto.revocation import decode_revocation
from meshd.crypto.suite import RealSuite
from meshd.errors import ControlError, MalformedMessage, MeshError, Rejected
from meshd.ids import MeshId, SessionId
from meshd.links import consent
from meshd.links.demux import Demux, Kind, kind_of
from meshd.portmap import igd, nat_pmp, pcp, plain_xml
from meshd.transport import chunks
from meshd.transport.association import Association
from meshd.transport.channels import decode_open
from meshd.transport.config import AssociationConfig
from meshd.transport.handshake import decode_init
from meshd.transport.stream_reset import StreamResets
from meshd.wire import codec, envelope, frame, introduction, messages, paste, record, sdp, session_description, stun
from meshd.wire.call import decode_call
from meshd.wire.credit import ReceiveCredit, SendCredit
from meshd.wire.stun_responder import StunResponder

PREFIX = introduction.PREFIX
Target = Callable[[bytes], None]


class Cuts:
    """Takes bytes apart into choices."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        return self.take(1)[0] if self else 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def piece(self) -> bytes:
        """As long as its first byte says, in steps of four."""
        return self.take(4 * self.byte())

    def pieces(self) -> Iterator[bytes]:
        while self:
            yield self.piece()


def refused(call: Callable[[], object], *errors: type[Exception]) -> object:
    """What it gives, or None if it refuses by a named error."""
    with contextlib.suppress(MalformedMessage, *errors):
        return call()
    return None


# -- SCTP -------------------------------------------------------------------------------------------------------------

PORT = 5000
TAGS = (0x11111111, 0x22222222)
BUFFER_SIZE = 20_000


def pair(interleaving: bool) -> tuple[Association, Association]:
    """Two ends that have shaken hands; the second is the victim."""
    config = AssociationConfig(
        offer_interleaving=interleaving, max_receive_buffer_size=BUFFER_SIZE, max_message_size=4_000
    )
    ends = [Association(config, tag=TAGS[i], initial_tsn=1000, cookie_key=bytes(32), now=0.0) for i in range(2)]
    ends[0].connect(0.0)
    for _ in range(4):
        for one, other in (ends, ends[::-1]):
            for packet in one.transmit(0.0):
                other.receive(packet, 0.0)
    assert all(end.is_established for end in ends)
    return ends[0], ends[1]


def sctp_sequence(data: bytes) -> None:
    """Packets, sends, resets, timers and time in any order, before the handshake or after it."""
    cuts = Cuts(data)
    mode = cuts.byte()
    if mode & 2:
        victim = pair(bool(mode & 1))[1]
    else:
        victim = Association(AssociationConfig(), tag=TAGS[1], initial_tsn=1000, cookie_key=bytes(32), now=0.0)
        if mode & 4:
            victim.connect(0.0)
    header = chunks.PORTS_AND_TAG.pack(PORT, PORT, TAGS[1]) + bytes(4)
    now = 1.0
    asked = answered = 0
    for _ in range(60):
        if not cuts:
            break
        choice = cuts.byte()
        if choice < 160:
            packet = (header if choice < 140 else chunks.PORTS_AND_TAG.pack(PORT, PORT, 0) + bytes(4)) + cuts.piece()
            victim.receive(packet, now)
            asked += len(packet)
        elif choice < 190:
            with contextlib.suppress(MeshError):
                victim.send(choice & 3, 53, bytes(1 + 8 * cuts.byte()), max_retransmits=choice & 1 or None)
        elif choice < 200:
            victim.reset_stream(choice & 7)
        elif choice < 205:
            victim.shutdown()
        else:
            now += cuts.byte() / 16
            victim.handle_timer(now)
        answered += sum(map(len, victim.transmit(now)))
        victim.take_events()
    turns = 0
    while (deadline := victim.next_deadline()) is not None and deadline <= now:
        victim.handle_timer(now)
        victim.transmit(now)
        turns += 1
        assert turns < 8, "a deadline that nothing moves"
    figures = victim.statistics()
    if figures is not None:
        assert 0 <= figures.held_size <= 2 * BUFFER_SIZE + 4_000
        assert figures.in_flight_size >= 0


def sctp_chunks(data: bytes) -> None:
    """Every decoder; what can be written again is the same."""
    for decode in (
        chunks.decode_parameters,
        chunks.split_chunks,
        lambda body: chunks.decode_forward_tsn(body, True),
        lambda body: chunks.decode_forward_tsn(body, False),
        lambda body: StreamResets(1, 2).on_re_config(body, 5, 16),
        decode_init,
        decode_open,
    ):
        refused(lambda decode=decode: decode(data))
    found = refused(lambda: chunks.decode_sack(data))
    if found is not None:
        _, _, gaps, _ = found  # type: ignore[misc]
        assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(gaps))


# -- below SCTP -------------------------------------------------------------------------------------------------------


def stun_codec(data: bytes) -> None:
    """Both readers of STUN, and the responder, whose answer is hardly longer than what asked for it."""
    refused(lambda: stun.decode(data))
    attributes = consent.attributes_of(data)
    consent.is_authentic(data, attributes, b"key")
    answer = StunResponder(Counter()).answer(data, ("203.0.113.7", 4242), 0.0)
    assert answer is None or len(answer) <= len(data) + 24


class Taker:
    """A link that takes some of what it is given."""

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.is_handshaking = bool(mask & 1)

    def receive_record(self, datagram: bytes) -> bool:
        return bool(len(datagram) & self.mask)

    def flush(self) -> None:
        pass


def demultiplexer(data: bytes) -> None:
    """Claims that come and go, datagrams from everywhere: all is forgotten at the end."""
    cuts = Cuts(data)
    demux: Demux[Taker] = Demux(Counter())
    links = {f"u{n}": Taker(n) for n in range(6)}
    for _ in range(80):
        if not cuts:
            break
        choice, who = cuts.byte(), cuts.byte()
        ufrag = f"u{who % 6}"
        address = ("192.0.2.1", who // 6)
        if choice < 60:
            demux.add(ufrag, links[ufrag])
            demux.claim(links[ufrag], address, proven=bool(choice & 1))
        elif choice < 90:
            demux.remove(ufrag, links[ufrag])
        else:
            datagram = cuts.piece()
            kind = kind_of(datagram)
            if kind is Kind.DTLS:
                demux.deliver(datagram, address)
            elif kind is Kind.STUN_REQUEST:
                username = consent.attributes_of(datagram).get(consent.USERNAME)
                demux.of_username(username[1] if username else b"")
        demux.flush()
    for ufrag, link in links.items():
        demux.remove(ufrag, link)
    assert not demux._claims
    assert not demux._only
    assert not demux._claimed


# -- above SCTP -------------------------------------------------------------------------------------------------------


def frames(data: bytes) -> None:
    """Frames, messages put together, credit."""
    together, receiving, sending = frame.Reassembler(), ReceiveCredit(2_000), SendCredit()
    for piece in Cuts(data).pieces():
        one = refused(lambda piece=piece: frame.decode_frame(piece))
        if not isinstance(one, frame.Frame):
            continue
        assert frame.encode_frame(one) == piece
        if one.type == frame.FrameType.MESSAGE:
            refused(lambda one=one: together.feed(one))
        elif one.type == frame.FrameType.DATA:
            found = refused(lambda one=one: frame.decode_data(one))
            if found is not None:
                offset, payload, _ = found  # type: ignore[misc]
                refused(lambda offset=offset, payload=payload: receiving.receive(offset, len(payload)))
        else:
            number = refused(lambda one=one: frame.decode_number(one))
            if isinstance(number, int):
                sending.grant(number)
    assert receiving.waiting <= 2_000
    assert all(size <= frame.MAX_MESSAGE_SIZE for size in together._sizes)


def description(data: bytes) -> None:
    """The short form; what is understood can be written and read again."""
    found = refused(lambda: session_description.decode(data))
    if isinstance(found, session_description.SessionDescription):
        assert session_description.decode(session_description.encode(found)) == found


def sdp_text(data: bytes) -> None:
    """Browsers' form."""
    found = refused(lambda: sdp.from_sdp(data.decode("utf-8", "replace")))
    if isinstance(found, session_description.SessionDescription):
        kind = "offer" if found.setup == "actpass" else "answer"
        assert sdp.from_sdp(sdp.to_sdp(found, kind)).fingerprint == found.fingerprint


SUITE = RealSuite(b"s" * 32, b"k" * 32)
MESH = MeshId(identity.public_of(b"m" * 32))


def sealed(data: bytes) -> None:
    """An envelope as it comes, and what could stand inside one."""
    refused(lambda: envelope.read_header(data))
    refused(lambda: envelope.open_envelope(SUITE, MESH, data), Rejected)
    refused(lambda: record.decode_record(data))
    refused(lambda: decode_chain([data]))
    refused(lambda: decode_revocation(data))
    for table in (messages.LINK_MESSAGES, messages.ENVELOPE_MESSAGES):
        refused(lambda table=table: messages.decode_message(data, table))
    refused(lambda: codec.unpack(data, 65_536))


def token(data: bytes) -> None:
    """A token, an offer, an answer, a call, as somebody has pasted them."""
    text = data.decode("utf-8", "replace")
    for whole in (text, PREFIX + text):
        refused(lambda whole=whole: introduction.decode_token(whole), ControlError)
    for kind in paste.PREFIXES:
        refused(lambda kind=kind: paste.decode_signal(kind, text), ControlError)
    for whole in (text, "{" + text):
        refused(lambda whole=whole: decode_call(whole), ControlError)
    introduction.proof_of(data, SUITE.peer_id, SessionId(data[:8]))


# -- routers ----------------------------------------------------------------------------------------------------------

AT = igd.location_at("http://192.0.2.1:5000/root.xml", "192.0.2.1")


def router(data: bytes) -> None:
    """Whatever answers in a router's name: PCP, NAT-PMP, UPnP."""
    refused(lambda: pcp.decode(data))
    refused(lambda: nat_pmp.decode(data))
    refused(lambda: plain_xml.parse(data))
    refused(lambda: igd.decode_search_answer(data, "192.0.2.1"))
    refused(lambda: igd.decode_description(data, AT))
    refused(lambda: igd.decode_action_answer(200, data, "AddPortMapping"))
    refused(lambda: igd.decode_action_answer(500, data, "AddPortMapping"))


TARGETS: dict[str, Target] = {
    "sctp_sequence": sctp_sequence,
    "sctp_chunks": sctp_chunks,
    "stun_codec": stun_codec,
    "demultiplexer": demultiplexer,
    "frames": frames,
    "description": description,
    "sdp_text": sdp_text,
    "sealed": sealed,
    "token": token,
    "router": router,
}
