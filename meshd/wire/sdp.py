"""Session descriptions as SDP (RFC 8866, 8839, 8841, 8842), for browsers and for what people paste.

Only what one data channel needs is written, and only that is read: of an offer with audio and video as well, the
``m=application`` section counts.
"""

from __future__ import annotations

import ipaddress
import re

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire.session_description import (
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_SCTP_PORT,
    KINDS,
    MAX_CANDIDATES,
    MAX_ICE_OPTIONS,
    Candidate,
    SessionDescription,
    candidate_priority,
    is_mdns_name,
    problem_of,
)

# Specification
DISCARD_PORT = 9  # stands for "no port known" (RFC 8839 section 5.1) and for active TCP candidates (RFC 6544)
MEDIA_PROTOCOLS = ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP")  # RFC 8841 section 4

# Policy
MAX_SDP_SIZE = 32_768  # a browser's offer with audio, video and candidates takes about 8,000
MAX_SDP_LINES = 1_024

_NUMBER = re.compile(r"[0-9]{1,10}\Z")


def to_sdp(description: SessionDescription, kind: str) -> str:
    """SDP for ``RTCPeerConnection.setRemoteDescription``; ``kind`` is offer or answer.

    Raises LocalMisuse for an invalid description, and for an answer that leaves the DTLS role open (RFC 8842).
    """
    if (problem := problem_of(description)) is not None:
        raise LocalMisuse(f"not a session description: {problem}")
    if kind not in ("offer", "answer") or (kind == "answer" and description.setup == "actpass"):
        raise LocalMisuse("an answer says active or passive, and there are only offers and answers")
    d = description
    lines = [
        "v=0",
        # The session id is only to differ between sessions: 63 bits of the fingerprint do.
        f"o=- {int.from_bytes(d.fingerprint[:8], 'big') >> 1} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {d.mid}",
        f"m=application {DISCARD_PORT} UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{d.mid}",
        f"a=ice-ufrag:{d.ufrag}",
        f"a=ice-pwd:{d.pwd}",
    ]
    if d.ice_options:
        lines.append(f"a=ice-options:{' '.join(d.ice_options)}")
    lines += [
        f"a=fingerprint:sha-256 {d.fingerprint.hex(':').upper()}",
        f"a=setup:{d.setup}",
        f"a=sctp-port:{d.sctp_port}",
        f"a=max-message-size:{d.max_message_size}",
    ]
    lines += [f"a=candidate:{_candidate_text(candidate, index)}" for index, candidate in enumerate(d.candidates)]
    if "trickle" not in d.ice_options:
        lines.append("a=end-of-candidates")
    return "\r\n".join(lines) + "\r\n"


def _candidate_text(candidate: Candidate, index: int) -> str:
    """RFC 8839 section 5.1. Every candidate has a foundation of its own: none is frozen for another's sake."""
    text = (
        f"{index + 1} 1 {candidate.transport} {candidate_priority(candidate.kind, index)} "
        f"{candidate.host} {candidate.port} typ {candidate.kind}"
    )
    if candidate.kind != "host":
        # The grammar wants a related address; these values say that it is withheld.
        text += f" raddr {'::' if ':' in candidate.host else '0.0.0.0'} rport {DISCARD_PORT}"
    if candidate.transport == "tcp":
        text += f" tcptype {'active' if candidate.port == DISCARD_PORT else 'passive'}"
    return text


def from_sdp(sdp: str) -> SessionDescription:
    """The data channel's description in an offer or answer. Raises MalformedMessage, with what is missing.

    Candidates that nothing here can use (RTCP components, names other than mDNS ones, link-local addresses with a
    zone) are left out, as are those beyond ``MAX_CANDIDATES``.
    """
    if len(sdp) > MAX_SDP_SIZE:
        raise MalformedMessage(f"SDP of {len(sdp)} characters, {MAX_SDP_SIZE} are allowed")
    session, section = _attributes(sdp)

    def value_of(name: str, default: str | None = None) -> str:
        values = section.get(name) or session.get(name)
        if values:
            return values[0]
        if default is None:
            raise MalformedMessage(f"SDP without a={name}")
        return default

    fingerprints = section.get("fingerprint") or session.get("fingerprint") or []
    ranked: list[tuple[int, Candidate]] = []
    for text in section.get("candidate", []):
        if (parsed := _parse_candidate(text)) is not None and parsed[1] not in [known for _, known in ranked]:
            ranked.append(parsed)
    ranked.sort(key=lambda pair: -pair[0])
    description = SessionDescription(
        ufrag=value_of("ice-ufrag"),
        pwd=value_of("ice-pwd"),
        fingerprint=_parse_fingerprint(fingerprints),
        setup=value_of("setup"),
        candidates=tuple(candidate for _, candidate in ranked[:MAX_CANDIDATES]),
        sctp_port=_parse_number(value_of("sctp-port", str(DEFAULT_SCTP_PORT))),
        max_message_size=_parse_number(value_of("max-message-size", str(DEFAULT_MAX_MESSAGE_SIZE))),
        mid=value_of("mid", "0"),
        ice_options=_ice_options(value_of("ice-options", "")),
    )
    if (problem := problem_of(description)) is not None:
        raise MalformedMessage(f"SDP of which {problem}")
    return description


def _attributes(sdp: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The a= lines of the session and of the first section that carries data channels."""
    lines = sdp.replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_SDP_LINES:
        raise MalformedMessage(f"SDP of {len(lines)} lines, {MAX_SDP_LINES} are allowed")
    session: dict[str, list[str]] = {}
    section: dict[str, list[str]] = {}
    collecting: dict[str, list[str]] | None = session
    found = False
    for line in lines:
        if line.startswith("m="):
            words = line[2:].split()
            is_ours = not found and len(words) >= 3 and words[0] == "application" and words[2] in MEDIA_PROTOCOLS
            collecting = section if is_ours else None
            found = found or is_ours
        elif line.startswith("a=") and collecting is not None:
            name, _, value = line[2:].partition(":")
            collecting.setdefault(name.strip(), []).append(value.strip())
    if not found:
        raise MalformedMessage("SDP without a data channel (m=application … UDP/DTLS/SCTP)")
    return session, section


def _ice_options(text: str) -> tuple[str, ...]:
    """RFC 8839 section 5.6, and libdatachannel, which puts commas between them."""
    return tuple(text.replace(",", " ").split()[:MAX_ICE_OPTIONS])


def _parse_fingerprint(values: list[str]) -> bytes:
    for value in values:
        algorithm, _, digits = value.partition(" ")
        if algorithm.lower() == "sha-256":
            try:
                return bytes.fromhex(digits.strip().replace(":", ""))
            except ValueError:
                raise MalformedMessage("SDP with a fingerprint that is not hexadecimal") from None
    raise MalformedMessage("SDP without a SHA-256 fingerprint")


def _parse_number(text: str) -> int:
    if not _NUMBER.match(text):
        raise MalformedMessage("SDP with something else where a number belongs")
    return int(text)


def _parse_candidate(text: str) -> tuple[int, Candidate] | None:
    """Priority and candidate; None for one that is of no use here."""
    words = text.split()
    if len(words) < 8 or words[6] != "typ" or not all(_NUMBER.match(words[place]) for place in (1, 3, 5)):
        return None
    transport, priority, host, port, kind = words[2].lower(), words[3], words[4], words[5], words[7]
    if int(words[1]) != 1 or transport not in ("udp", "tcp") or kind not in KINDS or not 0 < int(port) < 65_536:
        return None
    if not is_mdns_name(host):
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            return None
        if "%" in host:
            return None
    return int(priority), Candidate(kind, host, int(port), transport)
