"""Lengths of time: as people write them, and as people read them. Moments, too."""

from __future__ import annotations

import time

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


def parse(text: str) -> float:
    """``90``, ``1.5h``, ``12h``, ``3d`` in seconds. Raises ValueError."""
    number = text.rstrip("smhdw")
    unit = text[len(number) :]
    try:
        seconds = float(number) * (_UNITS[unit] if unit else 1.0)
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no duration; write 90s, 15m, 12h or 3d") from None
    if not 0 < seconds < 1e12:
        raise ValueError(f"{text!r} is no duration; it has to be more than nothing")
    return seconds


def moment(text: str) -> str:
    """``2d`` (ago), ``2025-03-01``, ``2025-03-01 09:00`` or with seconds by the local clock, or RFC 3339 in UTC.

    In the form of the control socket. Raises ValueError.
    """
    from meshd.control.encodings import decode_time, encode_time

    if text.endswith("Z"):
        return encode_time(decode_time(text))
    for form in _FORMS:
        try:
            return encode_time(time.mktime(time.strptime(text.replace("T", " "), form)))
        except (ValueError, OverflowError):
            continue
    try:
        return encode_time(time.time() - parse(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; write 2d (ago), 2025-03-01 or '2025-03-01 09:00'") from None


def tight(seconds: float) -> str:
    """In one unit and without a space, for columns: ``0.6ms``, ``24ms``, ``1.5s``, ``12m``, ``3h``, ``2d``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f}ms"
    if seconds < 59.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    size, unit = next((size, unit) for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")) if round(seconds) >= size)
    return f"{round(seconds) // size}{unit}"


def show(seconds: float) -> str:
    """Short, in at most two units: ``12.3 ms``, ``5 s``, ``3 h 20 min``, ``2 d``."""
    if seconds < 0:
        return "-" + show(-seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s" if seconds < 9.95 else f"{whole} s"
    for size, name, below, below_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {below_name}" if rest else f"{whole // size} {name}"
    raise AssertionError(whole)
