"""What one side of a link must know of the other: ICE and DTLS parameters (RFC 8839, 8842, 8841) without the SDP.

Version 0 of the bytes, numbers big-endian::

    description = flags: u8 | count: u8 | fingerprint: 32 bytes | credentials | candidate * count | field *
    flags       = bits 0-1 setup (0 actpass, 1 active, 2 passive) | bit 2 packed credentials | bit 3 alike | others zero
    credentials = packed: ufrag 3 bytes, pwd 18 bytes: 4 and 24 ICE-chars read as base64
                | else: length - 1: u8, ufrag, length - 1: u8, pwd
    candidate   = kind: u8 | port: u16 | address
    kind        = bits 0-1 host, srflx, prflx, relay | bits 2-3 0 IPv4, 1 IPv6, 2 name | bit 4 TCP | others zero
    address     = 4 bytes | 16 bytes | length: u8, name
    field       = tag: u8 | length: u8 | value; tags rise; unknown ones are skipped: later versions may add some

Where one message carries several descriptions of one node, the later ones may be *alike*: the fingerprint is left out,
there are neither candidates nor fields, and all of these are those of the first.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field, replace

from meshd.errors import LocalMisuse, MalformedMessage

# Specification
FINGERPRINT_SIZE = 32  # SHA-256, RFC 8122 section 5
MIN_UFRAG_CHARS, MIN_PWD_CHARS, MAX_CREDENTIAL_CHARS = 4, 22, 256  # RFC 8839 section 5.4
DEFAULT_SCTP_PORT = 5_000  # what every WebRTC implementation uses; RFC 8841 section 5 wants it named
DEFAULT_MAX_MESSAGE_SIZE = 65_536  # what no a=max-message-size means, RFC 8841 section 6.1
TYPE_PREFERENCES = {"host": 126, "prflx": 110, "srflx": 100, "relay": 0}  # RFC 8445 section 5.1.2.2
KINDS = ("host", "srflx", "prflx", "relay")
SETUPS = ("actpass", "active", "passive")

# Policy
MAX_CANDIDATES = 16  # three addresses of each family and their reflections are usual; each costs a check with each
MAX_NAME_SIZE = 64  # mDNS names of browsers are a UUID and ".local": 42
MAX_TEXT_SIZE = 32  # mid and each ICE option
MAX_ICE_OPTIONS = 4
MAX_DESCRIPTION_SIZE = 2_048  # the longest possible one, all candidates being names, is below

PACKED_UFRAG_CHARS, PACKED_PWD_CHARS = 4, 24  # ours and Chromium's

_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+\Z")
_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.local\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+\Z")  # RFC 8866 section 9


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate (RFC 8839 section 5.1). ``kind``: host, srflx, prflx, relay. ``host``: IPv4, IPv6 or a name.

    A name is an mDNS one, as browsers give instead of private addresses. ``transport``: udp or tcp.
    """

    kind: str
    host: str
    port: int
    transport: str = "udp"


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """One side's parameters. ``setup`` is actpass, active or passive (RFC 8842); ``fingerprint`` is SHA-256, 32 bytes.

    The candidates stand in order of preference, so that no priorities need to travel. The last four matter to browsers
    only; our own descriptions leave them as they are, which costs nothing. ``max_message_size`` is in bytes, 0: any.
    """

    ufrag: str
    pwd: str = field(repr=False)
    fingerprint: bytes
    setup: str
    candidates: tuple[Candidate, ...] = ()
    sctp_port: int = DEFAULT_SCTP_PORT
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    mid: str = "0"
    ice_options: tuple[str, ...] = ()


def candidate_priority(kind: str, index: int) -> int:
    """The priority of the candidate at that place in a description: RFC 8445 section 5.1.2.1, component 1."""
    return (TYPE_PREFERENCES[kind] << 24) + ((65_535 - index) << 8) + 255


def problem_of(description: SessionDescription) -> str | None:
    """What is wrong with a description, in words; None if nothing is."""
    d = description
    if not (MIN_UFRAG_CHARS <= len(d.ufrag) <= MAX_CREDENTIAL_CHARS and _ICE_CHARS.match(d.ufrag)):
        return f"the ufrag is not {MIN_UFRAG_CHARS} to {MAX_CREDENTIAL_CHARS} ICE characters"
    if not (MIN_PWD_CHARS <= len(d.pwd) <= MAX_CREDENTIAL_CHARS and _ICE_CHARS.match(d.pwd)):
        return f"the pwd is not {MIN_PWD_CHARS} to {MAX_CREDENTIAL_CHARS} ICE characters"
    if len(d.fingerprint) != FINGERPRINT_SIZE:
        return f"the fingerprint is not {FINGERPRINT_SIZE} bytes"
    if d.setup not in SETUPS:
        return "the setup attribute is none of actpass, active, passive"
    if len(d.candidates) > MAX_CANDIDATES:
        return f"there are more than {MAX_CANDIDATES} candidates"
    if not (0 < d.sctp_port < 65_536 and 0 <= d.max_message_size < 1 << 32):
        return "the SCTP port or the largest message size is out of range"
    if len(d.ice_options) > MAX_ICE_OPTIONS:
        return f"there are more than {MAX_ICE_OPTIONS} ICE options"
    if not all(len(text) <= MAX_TEXT_SIZE and _TOKEN.match(text) for text in (d.mid, *d.ice_options)):
        return "the mid or an ICE option is not a short token"
    return next((problem for c in d.candidates if (problem := _problem_of_candidate(c)) is not None), None)


def _problem_of_candidate(candidate: Candidate) -> str | None:
    if candidate.kind not in KINDS:
        return "a candidate is of no known kind"
    if not 0 < candidate.port < 65_536:
        return "a candidate's port is not 1 to 65535"
    if candidate.transport not in ("udp", "tcp"):
        return "a candidate's transport is neither udp nor tcp"
    if _address_of(candidate.host) is None and not is_mdns_name(candidate.host):
        return "a candidate's host is neither an address nor a .local name"
    return None


def is_mdns_name(host: str) -> bool:
    """Whether ``host`` is a name that multicast DNS may resolve (RFC 6762)."""
    return len(host) <= MAX_NAME_SIZE and _NAME.match(host) is not None


def _address_of(host: str) -> bytes | None:
    """The packed address, if ``host`` is one in its one canonical spelling."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address.packed if "%" not in host and str(address) == host else None


# -- the bytes --------------------------------------------------------------------------------------------------------

_SCTP_PORT, _MAX_MESSAGE_SIZE, _MID, _ICE_OPTIONS = 1, 2, 3, 4  # tags; append only
_IPV4, _IPV6, _NAMED = 0, 1, 2
_PACKED_BIT, _ALIKE_BIT, _TCP_BIT = 0x04, 0x08, 0x10


def encode(description: SessionDescription, first: SessionDescription | None = None) -> bytes:
    """The bytes of a description: 133 with six candidates of ours, 23 if only the credentials differ from ``first``.

    Raises LocalMisuse if it breaks a rule.
    """
    if (problem := problem_of(description)) is not None:
        raise LocalMisuse(f"not a session description: {problem}")
    d = description
    packed = len(d.ufrag) == PACKED_UFRAG_CHARS and len(d.pwd) == PACKED_PWD_CHARS
    alike = first is not None and replace(d, ufrag=first.ufrag, pwd=first.pwd, setup=first.setup) == first
    flags = SETUPS.index(d.setup) | (_PACKED_BIT if packed else 0) | (_ALIKE_BIT if alike else 0)
    parts = [bytes((flags, 0))] if alike else [bytes((flags, len(d.candidates))), d.fingerprint]
    if packed:
        parts += [base64.b64decode(d.ufrag), base64.b64decode(d.pwd)]
    else:
        parts += [bytes((len(text) - 1,)) + text.encode() for text in (d.ufrag, d.pwd)]
    if alike:
        return b"".join(parts)
    for candidate in d.candidates:
        kind = KINDS.index(candidate.kind) | (_TCP_BIT if candidate.transport == "tcp" else 0)
        address = _address_of(candidate.host)
        if address is None:
            kind |= _NAMED << 2
            address = bytes((len(candidate.host),)) + candidate.host.encode()
        elif len(address) == 16:
            kind |= _IPV6 << 2
        parts += [bytes((kind,)), candidate.port.to_bytes(2, "big"), address]
    for tag, value, default in (
        (_SCTP_PORT, d.sctp_port.to_bytes(2, "big"), d.sctp_port == DEFAULT_SCTP_PORT),
        (_MAX_MESSAGE_SIZE, d.max_message_size.to_bytes(4, "big"), d.max_message_size == DEFAULT_MAX_MESSAGE_SIZE),
        (_MID, d.mid.encode(), d.mid == "0"),
        (_ICE_OPTIONS, " ".join(d.ice_options).encode(), not d.ice_options),
    ):
        if not default:
            parts.append(bytes((tag, len(value))) + value)
    return b"".join(parts)


class _Reader:
    """Takes bytes off the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise MalformedMessage("a session description is cut off")
        start, self._position = self._position, self._position + size
        return self._data[start : self._position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("ascii")
        except UnicodeDecodeError:
            raise MalformedMessage("text in a session description is not ASCII") from None


def decode(data: bytes, first: SessionDescription | None = None) -> SessionDescription:
    """The description in those bytes, ``first`` being the first in the same message. Raises MalformedMessage."""
    if len(data) > MAX_DESCRIPTION_SIZE:
        raise MalformedMessage(f"a session description of {len(data)} bytes")
    reader = _Reader(data)
    flags, count = reader.number(1), reader.number(1)
    setup = flags & 0x03
    if flags & ~(0x03 | _PACKED_BIT | _ALIKE_BIT) or setup >= len(SETUPS):
        raise MalformedMessage("a session description with reserved bits set")
    if count > MAX_CANDIDATES:
        raise MalformedMessage(f"a session description with {count} candidates")
    alike = bool(flags & _ALIKE_BIT)
    if alike and (first is None or count):
        raise MalformedMessage("a session description that is like another, which is not there")
    fingerprint = b"" if alike else reader.take(FINGERPRINT_SIZE)
    if flags & _PACKED_BIT:
        ufrag = base64.b64encode(reader.take(PACKED_UFRAG_CHARS * 3 // 4)).decode()
        pwd = base64.b64encode(reader.take(PACKED_PWD_CHARS * 3 // 4)).decode()
    else:
        ufrag = reader.text(reader.number(1) + 1)
        pwd = reader.text(reader.number(1) + 1)
    if alike and first is not None:
        description = replace(first, ufrag=ufrag, pwd=pwd, setup=SETUPS[setup])
        if reader.left:
            raise MalformedMessage("a session description that is like another, and more")
    else:
        candidates = tuple(_decode_candidate(reader) for _ in range(count))
        description = SessionDescription(ufrag, pwd, fingerprint, SETUPS[setup], candidates)
        description = _decode_fields(description, reader)
    if (problem := problem_of(description)) is not None:
        raise MalformedMessage(f"a session description of which {problem}")
    return description


def _decode_candidate(reader: _Reader) -> Candidate:
    kind, port = reader.number(1), reader.number(2)
    family = kind >> 2 & 0x03
    if kind & ~(0x0F | _TCP_BIT) or family > _NAMED:
        raise MalformedMessage("a candidate with reserved bits set")
    if family == _NAMED:
        host = reader.text(reader.number(1))
    else:
        host = str(ipaddress.ip_address(reader.take(16 if family == _IPV6 else 4)))
    return Candidate(KINDS[kind & 0x03], host, port, "tcp" if kind & _TCP_BIT else "udp")


def _decode_fields(description: SessionDescription, reader: _Reader) -> SessionDescription:
    last_tag = 0
    while reader.left:
        tag, size = reader.number(1), reader.number(1)
        if tag <= last_tag:
            raise MalformedMessage("the fields of a session description are out of order")
        last_tag = tag
        if tag in (_SCTP_PORT, _MAX_MESSAGE_SIZE) and size != (2 if tag == _SCTP_PORT else 4):
            raise MalformedMessage("a field of a session description has a wrong length")
        if tag == _SCTP_PORT:
            description = replace(description, sctp_port=reader.number(size))
        elif tag == _MAX_MESSAGE_SIZE:
            description = replace(description, max_message_size=reader.number(size))
        elif tag == _MID:
            description = replace(description, mid=reader.text(size))
        elif tag == _ICE_OPTIONS:
            description = replace(description, ice_options=tuple(reader.text(size).split(" ")))
        else:
            reader.take(size)
    return description
