"""Frames on a link's data channel: what a peer message or a stream's bytes look like on the way.

One frame is one data channel message (RFC 8831), at most ``MAX_FRAME_SIZE`` bytes. Fixed for all time::

    frame  = kind: u8 | stream: varint | payload
    kind   = bits 0-3 type | bits 4-5 priority | bit 6 MORE | bit 7 reserved, zero
    varint = RFC 9000 section 16, in its shortest form

    type 0 MESSAGE  stream 0; payload is a piece of one peer message, MORE says that the next piece follows in the next
                    MESSAGE frame of the same priority
    type 1 DATA     payload = offset: varint | bytes. ``offset`` counts from the stream's first byte, so that a stream
                    can go on over another link. MORE is clear on the stream's last frame only (which may be empty)
    type 2 CREDIT   payload = limit: varint, how many bytes in all the receiver of the stream takes by now
    type 3 RESET    payload = code: varint; the stream is over, both ways, whatever was on the way. Code 0: all that
                    came has been handed on, and all that was to be sent has been sent; so it is a good end
    type 4 DATAGRAM stream 0; payload is a whole peer message that goes once and may overtake others; MORE is clear
    type 5 CIRCUIT  stream is a circuit's number; payload is one sealed record of an end-to-end session; MORE is clear
    type 6 CIRCUIT_CREDIT  payload = limit: varint, how many bytes of records in all may come by that circuit by now
    others          ignored and counted by the receiver, so that later versions may add some

Streams are numbered from 1, and so are circuits, apart from them; who may open which number is decided above.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from meshd.errors import LocalMisuse, MalformedMessage

# Specification (ours: docs/protocol.md, frames)
TYPE_MASK = 0x0F
PRIORITY_SHIFT = 4
PRIORITY_MASK = 0x30
MORE_BIT = 0x40
RESERVED_BIT = 0x80
PRIORITIES = 3  # control, message, bulk: meshd.core.commands.Priority
MAX_VARINT = 2**62 - 1  # RFC 9000 section 16

# Policy
MAX_FRAME_SIZE = 16_384  # one frame delays a more urgent one by its own length: 13 ms on a 10 Mbit/s uplink
MAX_MESSAGE_SIZE = 98_304  # an application message of 64 KiB, sealed, signed and wrapped by a relay, fits with room
MAX_CIRCUIT_FRAME_SIZE = 16_320  # with what goes around it, one DTLS record (16,384) where packets may be so long
HEADER_SIZE = 2  # of a MESSAGE frame: kind and stream 0


class FrameType(IntEnum):
    """What a frame carries: the low four bits of ``kind``."""

    MESSAGE = 0
    DATA = 1
    CREDIT = 2
    RESET = 3
    DATAGRAM = 4
    CIRCUIT = 5
    CIRCUIT_CREDIT = 6


class ResetCode(IntEnum):
    """Why a stream is over. Others are taken as ``FAILED``."""

    DONE = 0  # last DATA sent, and all that came written out: each side says so once
    FAILED = 1  # reading or writing went wrong
    READER_GONE = 2  # nobody takes the bytes any more
    WITHDRAWN = 3  # whoever wanted the stream has given up meanwhile


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, taken apart. ``type`` may be a number that is no ``FrameType``: ignore such a frame."""

    type: int
    priority: int
    more: bool
    stream: int
    payload: bytes = field(repr=False)


def encode_varint(value: int) -> bytes:
    """RFC 9000 section 16: 1, 2, 4 or 8 bytes. Raises LocalMisuse outside 0 to 2^62 - 1."""
    if 0 <= value < 1 << 6:
        return value.to_bytes(1, "big")
    if 0 <= value < 1 << 14:
        return (value | 1 << 14).to_bytes(2, "big")
    if 0 <= value < 1 << 30:
        return (value | 2 << 30).to_bytes(4, "big")
    if 0 <= value <= MAX_VARINT:
        return (value | 3 << 62).to_bytes(8, "big")
    raise LocalMisuse(f"{value} does not fit a variable-length integer")


def decode_varint(data: bytes, position: int = 0) -> tuple[int, int]:
    """The value at ``position`` and the position after it. Raises MalformedMessage: cut off, or not the shortest."""
    if position >= len(data):
        raise MalformedMessage("a variable-length integer is missing")
    size = 1 << (data[position] >> 6)
    end = position + size
    if end > len(data):
        raise MalformedMessage("a variable-length integer is cut off")
    value = int.from_bytes(data[position:end], "big") & ((1 << (8 * size - 2)) - 1)
    if size > 1 and value < 1 << (4 * size - 2):
        raise MalformedMessage("a variable-length integer is longer than need be")
    return value, end


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame. Raises LocalMisuse if no receiver would take it."""
    if not (0 <= frame.type <= TYPE_MASK and 0 <= frame.priority < PRIORITIES):
        raise LocalMisuse(f"no such frame type or priority: {frame.type}, {frame.priority}")
    kind = frame.type | frame.priority << PRIORITY_SHIFT | (MORE_BIT if frame.more else 0)
    data = kind.to_bytes(1, "big") + encode_varint(frame.stream) + frame.payload
    if len(data) > MAX_FRAME_SIZE:
        raise LocalMisuse(f"a frame of {len(data)} bytes is longer than {MAX_FRAME_SIZE}")
    return data


def decode_frame(data: bytes) -> Frame:
    """Take a frame apart. Raises MalformedMessage: empty, too long, reserved bits set, or a type on a wrong stream."""
    if not 0 < len(data) <= MAX_FRAME_SIZE:
        raise MalformedMessage(f"a frame of {len(data)} bytes")
    kind = data[0]
    priority = (kind & PRIORITY_MASK) >> PRIORITY_SHIFT
    if kind & RESERVED_BIT or priority >= PRIORITIES:
        raise MalformedMessage("a frame with reserved bits set")
    stream, position = decode_varint(data, 1)
    frame_type = kind & TYPE_MASK
    if frame_type == FrameType.MESSAGE:
        if stream != 0:
            raise MalformedMessage("a message frame on a stream")
    elif frame_type <= FrameType.RESET:
        if stream == 0:
            raise MalformedMessage("a stream frame on no stream")
    elif frame_type == FrameType.DATAGRAM:
        if stream != 0 or kind & MORE_BIT:
            raise MalformedMessage("a datagram on a stream, or a piece of one")
    elif frame_type <= FrameType.CIRCUIT_CREDIT and (stream == 0 or kind & MORE_BIT):
        raise MalformedMessage("a circuit's frame on no circuit, or a piece of one")
    return Frame(frame_type, priority, bool(kind & MORE_BIT), stream, data[position:])


# -- messages ---------------------------------------------------------------------------------------------------------


def fragment(data: bytes, priority: int) -> list[bytes]:
    """The frames that carry one peer message, in order. Raises LocalMisuse above ``MAX_MESSAGE_SIZE``."""
    if len(data) > MAX_MESSAGE_SIZE:
        raise LocalMisuse(f"a message of {len(data)} bytes is longer than {MAX_MESSAGE_SIZE}")
    step = MAX_FRAME_SIZE - HEADER_SIZE
    return [
        encode_frame(Frame(FrameType.MESSAGE, priority, start + step < len(data), 0, data[start : start + step]))
        for start in range(0, max(len(data), 1), step)
    ]


def encode_datagram(data: bytes, priority: int) -> bytes:
    """The frame of a peer message that goes once. Raises LocalMisuse if it does not fit one frame."""
    return encode_frame(Frame(FrameType.DATAGRAM, priority, False, 0, data))


class Reassembler:
    """Puts the messages of one link together; at most ``MAX_MESSAGE_SIZE`` bytes wait in each priority class."""

    def __init__(self) -> None:
        self._pieces: tuple[list[bytes], ...] = tuple([] for _ in range(PRIORITIES))
        self._sizes = [0] * PRIORITIES

    def feed(self, frame: Frame) -> bytes | None:
        """Take the next MESSAGE frame; the whole message once its last piece is in.

        Raises MalformedMessage if the message grows too long, or a piece that is not the last carries nothing. The link
        is to be closed then: what follows could not be told apart any more.
        """
        pieces = self._pieces[frame.priority]
        if not pieces and not frame.more:
            return frame.payload  # a frame is shorter than the longest message, always
        if frame.more and not frame.payload:
            raise MalformedMessage("an empty piece of a message")
        size = self._sizes[frame.priority] + len(frame.payload)
        if size > MAX_MESSAGE_SIZE:
            raise MalformedMessage(f"a message longer than {MAX_MESSAGE_SIZE} bytes")
        pieces.append(frame.payload)
        if frame.more:
            self._sizes[frame.priority] = size
            return None
        message = b"".join(pieces)
        pieces.clear()
        self._sizes[frame.priority] = 0
        return message


# -- streams ----------------------------------------------------------------------------------------------------------


def max_data_size(stream: int, offset: int) -> int:
    """How many bytes of a stream fit one DATA frame at that offset."""
    return MAX_FRAME_SIZE - 1 - len(encode_varint(stream)) - len(encode_varint(offset))


def encode_data(stream: int, offset: int, data: bytes, *, priority: int, last: bool = False) -> bytes:
    """A DATA frame. Raises LocalMisuse if ``data`` is longer than ``max_data_size``."""
    return encode_frame(Frame(FrameType.DATA, priority, not last, stream, encode_varint(offset) + data))


def decode_data(frame: Frame) -> tuple[int, bytes, bool]:
    """Offset, bytes, and whether they are the stream's last. Raises MalformedMessage."""
    offset, position = decode_varint(frame.payload)
    data = frame.payload[position:]
    if offset + len(data) > MAX_VARINT:
        raise MalformedMessage("a stream longer than any can be")
    if frame.more and not data:
        raise MalformedMessage("an empty piece of a stream")
    return offset, data, not frame.more


def encode_credit(stream: int, limit: int, *, priority: int) -> bytes:
    """A CREDIT frame: the sender of the stream may have sent ``limit`` bytes in all."""
    return encode_frame(Frame(FrameType.CREDIT, priority, False, stream, encode_varint(limit)))


def encode_reset(stream: int, code: int, *, priority: int) -> bytes:
    """A RESET frame."""
    return encode_frame(Frame(FrameType.RESET, priority, False, stream, encode_varint(code)))


def decode_number(frame: Frame) -> int:
    """The limit of a CREDIT or CIRCUIT_CREDIT frame, the code of a RESET frame. Raises MalformedMessage.

    Bytes after the number are skipped: a later version may put more there.
    """
    return decode_varint(frame.payload)[0]


# -- circuits ---------------------------------------------------------------------------------------------------------


def max_circuit_record_size(circuit: int) -> int:
    """How many bytes of a record fit the frame of that circuit."""
    return MAX_CIRCUIT_FRAME_SIZE - 1 - len(encode_varint(circuit))


def encode_circuit(circuit: int, record: bytes, *, priority: int) -> bytes:
    """A CIRCUIT frame. Raises LocalMisuse if ``record`` is longer than ``max_circuit_record_size``."""
    return encode_frame(Frame(FrameType.CIRCUIT, priority, False, circuit, record))


def encode_circuit_credit(circuit: int, limit: int, *, priority: int) -> bytes:
    """A CIRCUIT_CREDIT frame."""
    return encode_frame(Frame(FrameType.CIRCUIT_CREDIT, priority, False, circuit, encode_varint(limit)))
