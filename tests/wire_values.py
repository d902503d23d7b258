"""Values of any message class, made from its ``WIRE``."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from meshd.wire.codec import Blob, Kind, Many, Maybe, Nested, Text, Uint

PRINTABLE = st.characters(codec="utf-8")


def values_of(kind: Kind) -> st.SearchStrategy[Any]:
    match kind:
        case Uint(bits):
            return st.integers(0, (1 << bits) - 1)
        case Blob(low, high):
            return st.binary(min_size=low, max_size=min(high, max(low, 80)))
        case Text(limit):
            return st.text(PRINTABLE, max_size=min(limit, 40))
        case Many(item, limit):
            return st.lists(values_of(item), max_size=min(limit, 3)).map(tuple)
        case Maybe(item):
            return st.none() | values_of(item)
        case Nested(of):
            return messages_of(of)
    raise AssertionError(f"a kind that this test does not know: {kind}")


def messages_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(*(values_of(kind) for kind in cls.WIRE)).map(lambda fields: cls(*fields))


def plain_values() -> st.SearchStrategy[Any]:
    """Anything that msgpack can say."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.binary(max_size=70)
        | st.text(PRINTABLE, max_size=20)
        | st.floats()
    )
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.integers(0, 9), inner, max_size=2)
    )
