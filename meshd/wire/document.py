"""The table of peer messages for people, in Markdown.

``docs/protocol.md`` holds it between two markers; ``make docs`` puts it there anew and a test compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from meshd.wire import messages, parts
from meshd.wire.codec import Blob, Kind, Many, Maybe, Nested, Text, Uint
from meshd.wire.joining import FurtherOffer
from meshd.wire.relaying import StreamPurpose

_TABLES: tuple[tuple[str, dict[int, type[Any]]], ...] = (
    ("On a link: its own affairs, records, relaying, streams, circuits", messages.ON_LINK),
    ("Joining: in an envelope", messages.JOINING),
    ("Signaling: in an envelope, by relay or push", messages.SIGNALING),
    ("To a member: on its link, or in an envelope", messages.TO_A_MEMBER),
)
_PARTS: tuple[type[Any], ...] = (
    parts.Grant,
    parts.SubscriptionPart,
    parts.CapabilityPart,
    FurtherOffer,
    StreamPurpose,
)


def kind_text(kind: Kind) -> str:
    """A field's kind in words: ``bytes 8``, ``text to 32``, ``array to 4 of Grant``."""
    match kind:
        case Uint(bits):
            return f"uint {bits}"
        case Blob(low, high):
            return f"bytes {low:,}" if low == high else f"bytes {low:,} to {high:,}"
        case Text(high):
            return f"text to {high:,}"
        case Many(item, high):
            return f"array to {high:,} of {kind_text(item)}"
        case Maybe(item):
            return f"nil or {kind_text(item)}"
        case Nested(of):
            return of.__name__
        case _:
            return type(kind).__name__


def _fields(cls: type[Any]) -> str:
    kinds: tuple[Kind, ...] = cls.WIRE
    written = []
    for item, kind in zip(dataclasses.fields(cls), kinds, strict=True):
        optional = "" if item.default is dataclasses.MISSING else f", default `{item.default!r}`"
        written.append(f"`{item.name}` {kind_text(kind)}{optional}")
    return "<br>".join(written)


def _meaning(cls: type[Any]) -> str:
    lines = " ".join((cls.__doc__ or "").split())
    return lines.replace("``", "`").replace("|", "\\|")


def lines() -> Iterator[str]:
    """The tables, line by line."""
    for title, table in _TABLES:
        yield f"#### {title}"
        yield ""
        yield "| number | message | fields in order | meaning |"
        yield "|---|---|---|---|"
        for number, cls in table.items():
            yield f"| {number} | `{cls.__name__}` | {_fields(cls)} | {_meaning(cls)} |"
        yield ""
    yield "#### Parts of messages"
    yield ""
    yield "| part | fields in order | meaning |"
    yield "|---|---|---|"
    for cls in _PARTS:
        yield f"| `{cls.__name__}` | {_fields(cls)} | {_meaning(cls)} |"


def render() -> str:
    """The tables as one text."""
    return "\n".join(lines()) + "\n"
