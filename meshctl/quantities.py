"""Bytes and shares, short enough for a column."""

from __future__ import annotations

_PREFIXES = "kMGTPE"


def size(count: float, unit: str = "B") -> str:
    """``0 B``, ``812 B``, ``16 kB``, ``1.2 MB``; powers of ten (IEC 80000-13 calls the others Ki, Mi)."""
    if count < 999.5:
        return f"{count:.0f} {unit}"
    power = 0
    while count >= 999.5 and power < len(_PREFIXES):
        count /= 1000
        power += 1
    return f"{count:.1f} {_PREFIXES[power - 1]}{unit}" if count < 9.95 else f"{count:.0f} {_PREFIXES[power - 1]}{unit}"


def tight(count: float) -> str:
    """The same without unit and space: ``812``, ``16k``, ``1.2M``."""
    return size(count, "").replace(" ", "")


def percent(share: float) -> str:
    """``0%``, ``0.4%``, ``12%``."""
    return "0%" if share < 0.0005 else f"{share:.1%}" if share < 0.0095 else f"{share:.0%}"
