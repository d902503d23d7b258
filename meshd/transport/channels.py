"""Channels that the peer opens in band (RFC 8832), as far as a node with agreed ones needs it: yes, and their end."""

from __future__ import annotations

from struct import Struct

from meshd.errors import MalformedMessage
from meshd.transport.events import ChannelOpened, Message
from meshd.transport.handshake import PeerParameters
from meshd.transport.send_queue import Outgoing, SendQueue
from meshd.transport.stream_reset import StreamResets

# Specification
DCEP_PPID = 50  # RFC 8832 section 8.1
OPEN, ACK = 3, 2  # section 8.2.1
DATA_CHANNEL_ACK = bytes([ACK])

# Policy
MAX_CHANNEL = 8  # streams below this may be opened in band; ours are two

_OPEN = Struct(">BBHLHH")


def decode_open(message: bytes) -> str | None:
    """The label of a DATA_CHANNEL_OPEN, None for a DATA_CHANNEL_ACK (section 5). Raises MalformedMessage."""
    if message == DATA_CHANNEL_ACK:
        return None
    if len(message) < _OPEN.size:
        raise MalformedMessage("a DATA_CHANNEL_OPEN too short")
    kind, _, _, _, label_size, protocol_size = _OPEN.unpack_from(message)
    if kind != OPEN or len(message) != _OPEN.size + label_size + protocol_size:
        raise MalformedMessage("no DATA_CHANNEL_OPEN")
    try:
        return message[_OPEN.size : _OPEN.size + label_size].decode()
    except UnicodeDecodeError as problem:
        raise MalformedMessage("a label that is no UTF-8") from problem


class Channels:
    """Those that the peer has opened, and the streams whose end is on its way."""

    __slots__ = ("_ending", "_open", "_peer", "_queue", "_resets")

    def __init__(self, peer: PeerParameters, queue: SendQueue, resets: StreamResets) -> None:
        self._peer = peer
        self._queue = queue
        self._resets = resets
        self._open: set[int] = set()
        self._ending: set[int] = set()  # streams that we have reset, or will

    def on_message(self, message: Message) -> ChannelOpened | None:
        """RFC 8832 section 6: a channel is acknowledged, or refused by resetting its stream.

        One that is open already, or whose reset is not over, is refused too: every acknowledgement waits in the queue
        until the peer takes it. Raises MalformedMessage.
        """
        label = decode_open(message.data)
        if label is None:
            return None
        is_new = message.stream not in self._open and not self._resets.is_wanted(message.stream)
        if message.stream < min(MAX_CHANNEL, self._peer.inbound_streams) and is_new:
            self._open.add(message.stream)
            self._ending.discard(message.stream)  # that was for the last one: this one has its own end
            self._queue.put(Outgoing(message.stream, DCEP_PPID, DATA_CHANNEL_ACK, 0, True, None))
            return ChannelOpened(message.stream, label)
        self.reset(message.stream)
        return None

    def reset(self, stream: int) -> None:
        """Close our side of a stream once everything queued on it has left."""
        if self._peer.reconfiguration and stream not in self._ending:
            self._ending.add(stream)
            self._resets.want(stream)

    def on_reset(self, stream: int) -> None:
        """The peer has closed its side."""
        self._open.discard(stream)
        self.reset(stream)  # RFC 8831 section 6.7: the other direction follows
        self._ending.discard(stream)  # both are over: it may be closed anew
