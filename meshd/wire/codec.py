"""msgpack, strict and bounded: from a message class to bytes and back.

A message is an array: its fields in the order of its class, each checked by a *kind* (``Uint``, ``Blob``, …) that the
class names in ``WIRE``. Later versions may append fields: what is missing at the end takes the default, what is too
much is ignored. So two versions understand each other without either knowing which is older.

Whatever the bytes, ``decode`` gives a value or raises ``MalformedMessage``: never anything else, and never after
allocating more than a small multiple of the input (msgpack refuses lengths beyond the buffer before it allocates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgpack

from meshd.errors import MalformedMessage

# Policy
MAX_ITEMS = 4096  # of any array; the longest is a digest of a large mesh

T = TypeVar("T")


class Kind(Protocol):
    """How one field is checked on the way in and laid out on the way out."""

    def load(self, raw: Any) -> Any:
        """From msgpack's value to ours. Raises MalformedMessage."""
        ...

    def dump(self, value: Any) -> Any:
        """From our value to msgpack's."""
        ...


def _refuse(what: str) -> MalformedMessage:
    return MalformedMessage(what)


@dataclass(frozen=True, slots=True)
class Uint:
    """An unsigned integer of at most ``bits`` bits."""

    bits: int = 32

    def load(self, raw: Any) -> int:
        """Check type (bool is no integer here) and range."""
        if type(raw) is not int or not 0 <= raw < 1 << self.bits:
            raise _refuse(f"not an unsigned integer of {self.bits} bits")
        return raw

    def dump(self, value: int) -> int:
        """As it is."""
        return value


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes, from ``min_size`` to ``max_size`` of them."""

    min_size: int
    max_size: int

    def load(self, raw: Any) -> bytes:
        """Check type and size."""
        if type(raw) is not bytes or not self.min_size <= len(raw) <= self.max_size:
            raise _refuse(f"not {self.min_size} to {self.max_size} bytes")
        return raw

    def dump(self, value: bytes) -> bytes:
        """As it is."""
        return bytes(value)


def fixed(size: int) -> Blob:
    """Exactly ``size`` bytes."""
    return Blob(size, size)


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text of at most ``max_chars`` characters."""

    max_chars: int

    def load(self, raw: Any) -> str:
        """Check type and length; msgpack has checked the UTF-8."""
        if type(raw) is not str or len(raw) > self.max_chars:
            raise _refuse(f"not text of at most {self.max_chars} characters")
        return raw

    def dump(self, value: str) -> str:
        """As it is."""
        return value


@dataclass(frozen=True, slots=True)
class Many:
    """A tuple of ``item``, at most ``max_items`` of them."""

    item: Kind
    max_items: int

    def load(self, raw: Any) -> tuple[Any, ...]:
        """Check each."""
        if type(raw) is not list or len(raw) > self.max_items:
            raise _refuse(f"not an array of at most {self.max_items}")
        return tuple([self.item.load(each) for each in raw])

    def dump(self, value: tuple[Any, ...]) -> list[Any]:
        """Each."""
        return [self.item.dump(each) for each in value]


@dataclass(frozen=True, slots=True)
class Maybe:
    """``item`` or nil."""

    item: Kind

    def load(self, raw: Any) -> Any:
        """None or the item."""
        return None if raw is None else self.item.load(raw)

    def dump(self, value: Any) -> Any:
        """None or the item."""
        return None if value is None else self.item.dump(value)


@dataclass(frozen=True, slots=True)
class Nested:
    """Another message class inside this one."""

    of: type[Any]

    def load(self, raw: Any) -> Any:
        """Check as that class."""
        return from_array(self.of, raw)

    def dump(self, value: Any) -> list[Any]:
        """As that class's array."""
        return to_array(value)


def to_array(value: Any) -> list[Any]:
    """The fields of a message, in order, ready for msgpack."""
    return [kind.dump(getattr(value, name)) for name, kind in zip(value.__match_args__, value.WIRE, strict=True)]


def from_array(cls: type[T], raw: Any) -> T:
    """Build ``cls`` from what msgpack gave. Raises MalformedMessage."""
    if type(raw) is not list:
        raise _refuse(f"{cls.__name__} is not an array")
    kinds = cls.WIRE  # type: ignore[attr-defined]
    fields = [kind.load(item) for kind, item in zip(kinds, raw, strict=False)]
    try:
        return cls(*fields)
    except (TypeError, ValueError) as error:  # fields without a default are missing, or __post_init__ objects
        raise _refuse(f"{cls.__name__}: {error}") from None


def pack(value: Any) -> bytes:
    """msgpack of plain values (ints, bytes, text, lists, None)."""
    return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]


def unpack(data: bytes, max_size: int) -> Any:
    """One msgpack value that fills ``data`` exactly; no maps, no extension types. Raises MalformedMessage."""
    if len(data) > max_size:
        raise _refuse(f"{len(data)} bytes where at most {max_size} may be")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_ITEMS,
            max_map_len=0,
            max_ext_len=0,
            max_bin_len=max_size,
            max_str_len=max_size,
        )
    except Exception as error:  # msgpack raises ValueError and its subclasses, UnicodeDecodeError, StackError, …
        raise _refuse(f"not msgpack: {type(error).__name__}") from None


def encode(value: Any) -> bytes:
    """The bytes of one message."""
    return pack(to_array(value))


def decode(cls: type[T], data: bytes, max_size: int) -> T:
    """One message of that class. Raises MalformedMessage."""
    return from_array(cls, unpack(data, max_size))
