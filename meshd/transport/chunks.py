"""SCTP packets and chunks in bytes (RFC 9260 section 3 and the extensions): every layout that goes over the wire.

Decoders take what a peer wrote and raise MalformedMessage, nothing else. DATA and I-DATA, the ones that come fifty
thousand times a second, are read and written in place with the structures below; the rest have functions.
"""

from __future__ import annotations

from struct import Struct, error

from google_crc32c import extend

from meshd.errors import MalformedMessage

# Specification
COMMON = Struct(">HHLL")  # RFC 9260 section 3.1: source port, destination port, tag, checksum
PORTS_AND_TAG = Struct(">HHL")
CHECKSUM = Struct("<L")  # section 6.8 and appendix A: the one field that is the other way round
CHUNK = Struct(">BBH")  # section 3.2: type, flags, length
DATA_HEADER = Struct(">BBHLHHL")  # section 3.3.1: TSN, stream, stream sequence number, PPID
I_DATA_HEADER = Struct(">BBHLHHLL")  # RFC 8260 section 2.1: TSN, stream, reserved, MID, PPID or FSN
SACK_HEADER = Struct(">BBHLLHH")  # section 3.3.4: cumulative TSN, a_rwnd, gap blocks, duplicates
GAP = Struct(">HH")
TSN = Struct(">L")
PAIR = Struct(">LL")

COMMON_SIZE = 12
CHUNK_SIZE = 4
DATA_SIZE = 16
I_DATA_SIZE = 20
SACK_SIZE = 16

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN, SHUTDOWN_ACK, ERROR = range(10)
COOKIE_ECHO, COOKIE_ACK = 10, 11
SHUTDOWN_COMPLETE = 14
I_DATA = 64  # RFC 8260
RE_CONFIG = 130  # RFC 6525
PAD = 132  # RFC 4820
FORWARD_TSN = 192  # RFC 3758
I_FORWARD_TSN = 194  # RFC 8260

LAST, FIRST, UNORDERED, IMMEDIATE = 1, 2, 4, 8  # section 3.3.1: the E, B, U and I bits
TAG_REFLECTED = 1  # section 3.3.7: the T bit of ABORT and SHUTDOWN COMPLETE

HEARTBEAT_INFO = 1  # section 3.3.5
CAUSE_STALE_COOKIE, CAUSE_UNKNOWN_CHUNK = 3, 6  # section 3.3.10
CAUSE_USER_ABORT, CAUSE_PROTOCOL_VIOLATION = 12, 13

# Policy
MAX_PARAMETERS = 64  # of one chunk; nobody sends a dozen
MAX_CHUNKS_IN_PACKET = 1024  # 16 KiB of the smallest messages
MAX_GAP_BLOCKS_READ = 512  # of one SACK: sorting more would cost more than a packet may; the next SACK has the rest


def padded(chunk: bytes) -> bytes:
    """The chunk followed by zeros up to a multiple of four bytes (section 3.2)."""
    return chunk + b"\0" * (-len(chunk) & 3)


def encode_chunk(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    """Any chunk, with its padding."""
    return padded(CHUNK.pack(kind, flags, len(body) + CHUNK_SIZE) + body)


def encode_parameter(kind: int, value: bytes) -> bytes:
    """A parameter or an error cause: both are type, length, value and padding (section 3.2.1)."""
    return padded(GAP.pack(kind, len(value) + 4) + value)


def decode_parameters(body: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    """The parameters of a chunk in order. Raises MalformedMessage."""
    found: list[tuple[int, bytes]] = []
    while len(body) - offset >= CHUNK_SIZE:
        kind, length = GAP.unpack_from(body, offset)
        if length < CHUNK_SIZE or offset + length > len(body) or len(found) == MAX_PARAMETERS:
            raise MalformedMessage("a parameter with a wrong length, or too many of them")
        found.append((kind, body[offset + CHUNK_SIZE : offset + length]))
        offset += (length + 3) & ~3
    return found


def checksum_of(header: bytes, body: bytes) -> bytes:
    """CRC32c over the packet with the checksum field zero (section 6.8); ``header`` is ports and tag."""
    return CHECKSUM.pack(extend(extend(0, header + b"\0\0\0\0"), body))


def encode_packet(port: int, tag: int, *chunks: bytes) -> bytes:
    """A packet with a checksum, of chunks that are padded already."""
    header = PORTS_AND_TAG.pack(port, port, tag)
    body = b"".join(chunks)
    return header + checksum_of(header, body) + body


def is_checksum_right(packet: bytes) -> bool:
    """Whether the checksum fits; a packet too short for a header has none."""
    return len(packet) >= COMMON_SIZE and packet[8:12] == checksum_of(packet[:8], packet[12:])


def split_chunks(packet: bytes) -> list[tuple[int, int, bytes]]:
    """Type, flags and body of each chunk. Raises MalformedMessage."""
    found: list[tuple[int, int, bytes]] = []
    offset = COMMON_SIZE
    while len(packet) - offset >= CHUNK_SIZE:
        kind, flags, length = CHUNK.unpack_from(packet, offset)
        if length < CHUNK_SIZE or offset + length > len(packet) or len(found) == MAX_CHUNKS_IN_PACKET:
            raise MalformedMessage("a chunk with a wrong length, or too many of them")
        found.append((kind, flags, packet[offset + CHUNK_SIZE : offset + length]))
        offset += (length + 3) & ~3
    if len(packet) < COMMON_SIZE or offset < len(packet):
        raise MalformedMessage("bytes that are no chunk")
    return found


def encode_sack(cumulative: int, window: int, gaps: list[tuple[int, int]], duplicates: list[int]) -> bytes:
    """A SACK chunk; ``gaps`` are first and last offset from the cumulative TSN (section 3.3.4)."""
    length = SACK_SIZE + 4 * (len(gaps) + len(duplicates))
    head = SACK_HEADER.pack(SACK, 0, length, cumulative & 0xFFFFFFFF, window, len(gaps), len(duplicates))
    if not gaps and not duplicates:
        return head
    tail = [GAP.pack(first, last) for first, last in gaps]
    tail += [TSN.pack(tsn & 0xFFFFFFFF) for tsn in duplicates]
    return head + b"".join(tail)


def decode_sack(body: bytes) -> tuple[int, int, list[tuple[int, int]], list[int]]:
    """Cumulative TSN, window, gap blocks (sorted, disjoint, not touching), duplicate TSNs. Raises MalformedMessage."""
    if len(body) < SACK_SIZE - CHUNK_SIZE:
        raise MalformedMessage("a SACK too short")
    cumulative, window, blocks, duplicates = _SACK_BODY.unpack_from(body)
    if len(body) != SACK_SIZE - CHUNK_SIZE + 4 * (blocks + duplicates):
        raise MalformedMessage("a SACK whose counts do not fit its length")
    gaps: list[tuple[int, int]] = []
    if blocks:
        offset = SACK_SIZE - CHUNK_SIZE
        gaps = list(GAP.iter_unpack(body[offset : offset + 4 * min(blocks, MAX_GAP_BLOCKS_READ)]))
        if any(first < 1 or last < first for first, last in gaps):
            raise MalformedMessage("a gap block that is none")
        gaps = merge_ranges(gaps)
    if not duplicates:
        return cumulative, window, gaps, []
    return cumulative, window, gaps, [tsn for (tsn,) in TSN.iter_unpack(body[-4 * duplicates :])]


_SACK_BODY = Struct(">LLHH")


def merge_ranges(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers as sorted ranges that neither overlap nor touch."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def encode_forward_tsn(tsn: int, skipped: list[tuple[int, bool, int]], interleaving: bool) -> bytes:
    """FORWARD-TSN (RFC 3758 section 3.2) or I-FORWARD-TSN (RFC 8260 section 2.3.1).

    ``skipped`` is stream, unordered, and the last message number given up; what is unordered has none in the former.
    """
    body = TSN.pack(tsn & 0xFFFFFFFF)
    if interleaving:
        body += b"".join(_I_SKIP.pack(stream, unordered, number) for stream, unordered, number in skipped)
        return encode_chunk(I_FORWARD_TSN, body)
    return encode_chunk(
        FORWARD_TSN, body + b"".join(GAP.pack(s, n & 0xFFFF) for s, unordered, n in skipped if not unordered)
    )


_I_SKIP = Struct(">HHL")


def decode_forward_tsn(body: bytes, interleaving: bool) -> tuple[int, list[tuple[int, bool, int]]]:
    """The new cumulative TSN and what is skipped, as ``encode_forward_tsn`` takes it. Raises MalformedMessage."""
    try:
        (tsn,) = TSN.unpack_from(body)
        if interleaving:
            return tsn, [(stream, bool(flags & 1), number) for stream, flags, number in _I_SKIP.iter_unpack(body[4:])]
        return tsn, [(stream, False, number) for stream, number in GAP.iter_unpack(body[4:])]
    except error as problem:
        raise MalformedMessage("a FORWARD-TSN of a wrong length") from problem
