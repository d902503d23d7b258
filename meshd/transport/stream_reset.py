"""Closing streams: RE-CONFIG with outgoing SSN resets, asked and answered (RFC 6525, RFC 8831 section 6.7)."""

from __future__ import annotations

from struct import Struct

from meshd.errors import MalformedMessage
from meshd.transport.chunks import PAIR, RE_CONFIG, TSN, decode_parameters, encode_chunk, encode_parameter

# Specification
OUTGOING_RESET, INCOMING_RESET, TSN_RESET, RESPONSE, ADD_OUTGOING, ADD_INCOMING = 13, 14, 15, 16, 17, 18
NOTHING_TO_DO, PERFORMED, DENIED, WRONG_SSN, ALREADY_UNDER_WAY, BAD_SEQUENCE_NUMBER, IN_PROGRESS = range(7)
MAX_RESET_PARAMETERS = 2  # section 3.1

# Policy
MAX_RESETS_ASKED = 8  # tries until the peer counts as gone

_OUTGOING = Struct(">LLL")
_STREAM = Struct(">H")


class StreamResets:
    """One request of ours is under way at a time; each of the peer's is answered, a repeated one alike."""

    __slots__ = ("_asked", "_deadline", "_next_request", "_peer_last", "_peer_result", "_request", "_tries", "_wanted")

    def __init__(self, initial_tsn: int, peer_initial_tsn: int) -> None:
        self._next_request = initial_tsn
        self._peer_last = (peer_initial_tsn - 1) & 0xFFFFFFFF
        self._peer_result = NOTHING_TO_DO
        self._wanted: list[int] = []
        self._asked: list[int] = []
        self._request = b""
        self._tries = 0
        self._deadline: float | None = None

    # -- ours ----------------------------------------------------------------------------------------------------------

    def want(self, stream: int) -> None:
        """Reset this stream once it is drained."""
        if not self.is_wanted(stream):
            self._wanted.append(stream)

    def is_wanted(self, stream: int) -> bool:
        """Whether a reset of this stream waits, to be asked or to be answered."""
        return stream in self._wanted or stream in self._asked

    @property
    def wanted(self) -> list[int]:
        """Streams that wait for their turn."""
        return self._wanted

    def take_request(self, drained: list[int], last_tsn: int, now: float, rto: float) -> bytes:
        """The RE-CONFIG chunk that is due, or nothing. ``drained`` are those of ``wanted`` that may be reset now."""
        if self._deadline is not None:
            if now < self._deadline:
                return b""
            self._tries += 1
            self._deadline = now + rto * (1 << self._tries)
            return self._request
        if not drained:
            return b""
        self._asked = drained
        self._wanted = [stream for stream in self._wanted if stream not in drained]
        body = _OUTGOING.pack(self._next_request, self._peer_last, last_tsn & 0xFFFFFFFF)
        body += b"".join(_STREAM.pack(stream) for stream in drained)
        self._request = encode_chunk(RE_CONFIG, encode_parameter(OUTGOING_RESET, body))
        self._tries = 0
        self._deadline = now + rto
        return self._request

    @property
    def is_hopeless(self) -> bool:
        """Whether the peer has left request upon request unanswered."""
        return self._tries >= MAX_RESETS_ASKED

    @property
    def next_deadline(self) -> float | None:
        """When the request is to be repeated."""
        return self._deadline

    def _on_response(self, sequence: int, result: int) -> list[int]:
        """The streams of ours that start from zero again."""
        if self._deadline is None or sequence != self._next_request:
            return []
        if result == IN_PROGRESS:
            self._tries = 0
            return []  # the timer asks again
        self._deadline = None
        self._next_request = (self._next_request + 1) & 0xFFFFFFFF
        done, self._asked = self._asked, []
        return done if result in (NOTHING_TO_DO, PERFORMED) else []

    # -- the peer's ----------------------------------------------------------------------------------------------------

    def on_re_config(self, body: bytes, received: int, streams: int) -> tuple[bytes, list[int], list[int]]:
        """Take a RE-CONFIG; answer chunks to send, streams the peer has reset, streams of ours that are reset.

        ``received`` is the cumulative TSN, ``streams`` how many there are. Raises MalformedMessage.
        """
        parameters = decode_parameters(body)
        if not 1 <= len(parameters) <= MAX_RESET_PARAMETERS:
            raise MalformedMessage("a RE-CONFIG of too many parameters")
        answers = b""
        theirs: list[int] = []
        ours: list[int] = []
        for kind, value in parameters:
            if len(value) < (PAIR.size if kind == RESPONSE else TSN.size):
                raise MalformedMessage("a RE-CONFIG parameter too short")
            if kind == RESPONSE:
                sequence, result = PAIR.unpack_from(value)
                ours += self._on_response(sequence, result)
            elif kind == OUTGOING_RESET:
                sequence, result, reset = self._on_outgoing_reset(value, received, streams)
                theirs += reset
                answers += _response(sequence, result)
            elif kind in (INCOMING_RESET, TSN_RESET, ADD_OUTGOING, ADD_INCOMING):
                sequence = int.from_bytes(value[:4])
                if sequence == (self._peer_last + 1) & 0xFFFFFFFF:
                    self._peer_last, self._peer_result = sequence, DENIED
                answers += _response(sequence, DENIED if sequence == self._peer_last else BAD_SEQUENCE_NUMBER)
        return answers, theirs, ours

    def _on_outgoing_reset(self, value: bytes, received: int, streams: int) -> tuple[int, int, list[int]]:
        if len(value) < _OUTGOING.size or len(value) & 1:
            raise MalformedMessage("a stream reset of a wrong length")
        sequence, _, last_tsn = _OUTGOING.unpack_from(value)
        again = sequence == self._peer_last and self._peer_result == IN_PROGRESS
        if sequence == self._peer_last and not again:
            return sequence, self._peer_result, []
        if not again and sequence != (self._peer_last + 1) & 0xFFFFFFFF:
            return sequence, BAD_SEQUENCE_NUMBER, []
        named = {stream for (stream,) in _STREAM.iter_unpack(value[_OUTGOING.size :])}
        reset = sorted(named) if named else list(range(streams))
        self._peer_last = sequence
        if reset[-1] >= streams:
            self._peer_result = WRONG_SSN
            return sequence, WRONG_SSN, []
        if 0 < (last_tsn - received) & 0xFFFFFFFF < 1 << 31:
            self._peer_result = IN_PROGRESS  # section 5.2.2 E2: not before everything sent on it has come
            return sequence, IN_PROGRESS, []
        self._peer_result = PERFORMED
        return sequence, PERFORMED, reset


def _response(sequence: int, result: int) -> bytes:
    return encode_chunk(RE_CONFIG, encode_parameter(RESPONSE, PAIR.pack(sequence, result)))
