"""Bytes as a word to paste: base64url of version, length, body and checksum, after a prefix that says what it is.

The length tells a text that was cut off from one that was damaged. A text survives line breaks, spaces, quotes,
zero-width characters and chat clients' quote marks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from typing import NamedTuple

from meshd.errors import Code, ControlError

# Specification (ours)
VERSION = 1
CHECKSUM_SIZE = 6
_FRAME = struct.Struct(">BH")

# Policy
MAX_TEXT_CHARS = 65_536  # of what a person pastes, the noise around the text included
NOISE = re.compile("[\\s\u00ad\"'`<>|*\u200b-\u200f\u2018-\u201f\u2060\ufeff]+")
_WORD = re.compile(r"[A-Za-z0-9_-]*")


class Faults(NamedTuple):
    """What is said of a text that cannot be read."""

    foreign: Code
    truncated: Code
    mangled: Code


def encode_text(prefix: str, body: bytes) -> str:
    """The word to hand over."""
    framed = _FRAME.pack(VERSION, _FRAME.size + len(body) + CHECKSUM_SIZE) + body
    data = framed + hashlib.sha256(framed).digest()[:CHECKSUM_SIZE]
    return prefix + base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_text(prefix: str, text: str, faults: Faults) -> bytes:
    """The body of a pasted word. Raises ControlError: foreign, truncated or mangled, told apart."""
    if len(text) > MAX_TEXT_CHARS:
        raise ControlError(faults.foreign, f"It is longer than {MAX_TEXT_CHARS} characters.")
    word = NOISE.sub("", text)
    start = word.find(prefix)
    if start < 0:
        raise ControlError(faults.foreign, f"It would begin with {prefix}")
    encoded = word[start + len(prefix) :]
    if _WORD.fullmatch(encoded) is None:
        # Chat clients append a full stop or a bracket; anything else inside means damage, found by the checksum.
        matched = _WORD.match(encoded)
        encoded = matched.group() if matched else ""
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        # One character too many for base64: cut short in the middle of a byte.
        data = base64.urlsafe_b64decode(encoded[: len(encoded) // 4 * 4])
    if len(data) < _FRAME.size:
        raise ControlError(faults.truncated)
    version, length = _FRAME.unpack_from(data)
    if version != VERSION:
        raise ControlError(faults.mangled, f"Or it is of a later version ({version}) than this meshd knows.")
    if len(data) < length:
        raise ControlError(faults.truncated, f"{len(data)} of {length} bytes are there.")
    framed, checksum = data[: length - CHECKSUM_SIZE], data[length - CHECKSUM_SIZE : length]
    if length < _FRAME.size + CHECKSUM_SIZE or hashlib.sha256(framed).digest()[:CHECKSUM_SIZE] != checksum:
        raise ControlError(faults.mangled)
    return framed[_FRAME.size :]


# -- offers and answers -----------------------------------------------------------------------------------------------

PREFIXES = {"offer": "meshd-offer1_", "answer": "meshd-answer1_", "call": "meshd-call1_"}
_FAULTS = Faults(Code.PASTE_FOREIGN, Code.PASTE_TRUNCATED, Code.PASTE_MANGLED)


def encode_signal(kind: str, envelope: bytes) -> str:
    """An envelope with an offer or an answer, to be pasted."""
    return encode_text(PREFIXES[kind], envelope)


def decode_signal(kind: str, text: str) -> bytes:
    """The envelope in a pasted offer or answer. Raises ControlError, with what it is instead, if it is not."""
    word = NOISE.sub("", text[:MAX_TEXT_CHARS])
    if PREFIXES[kind] not in word:
        if PREFIXES["offer"] in word:
            raise ControlError(Code.PASTE_FOREIGN, "It is an offer. To answer it: meshctl answer")
        if PREFIXES["answer"] in word:
            raise ControlError(Code.PASTE_FOREIGN, "It is an answer, for where the offer was made: meshctl accept")
        if PREFIXES["call"] in word:
            raise ControlError(Code.PASTE_FOREIGN, "It is a call, for any member of a mesh: meshctl join")
        if "meshd1_" in word:
            raise ControlError(
                Code.PASTE_FOREIGN, "It is an introduction token: meshctl join, or by hand meshctl offer --for TOKEN"
            )
    return decode_text(PREFIXES[kind], text, _FAULTS)
