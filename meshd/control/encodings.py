"""How bytes and times look in JSON on the control socket. Standard library only: ``meshctl`` uses it too."""

from __future__ import annotations

import binascii
import time


def encode_bytes(raw: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return binascii.b2a_base64(raw, newline=False).decode().rstrip("=").replace("+", "-").replace("/", "_")


def decode_bytes(text: str) -> bytes:
    """The inverse of ``encode_bytes``. Raises ValueError for anything that it does not give."""
    try:
        raw = binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueError("not base64url without padding") from None
    if encode_bytes(raw) != text:
        raise ValueError("not base64url without padding")
    return raw


def encode_time(unix: float) -> str:
    """RFC 3339 in UTC with milliseconds, of seconds since 1970. Raises ValueError outside the years 1 to 9999."""
    try:
        seconds, milliseconds = divmod(round(unix * 1000), 1000)
        whole = time.gmtime(seconds)
    except (OverflowError, OSError):
        raise ValueError(f"{unix} is no time that can be written") from None
    if not 1 <= whole.tm_year <= 9999:
        raise ValueError(f"{unix} is no time that can be written")
    # strftime pads years below 1000 differently from one C library to the next
    return f"{whole.tm_year:04}{time.strftime('-%m-%dT%H:%M:%S', whole)}.{milliseconds:03}Z"


def decode_time(text: str) -> float:
    """The inverse of ``encode_time``, in seconds since 1970. Raises ValueError for anything that it does not give."""
    try:
        days = _days(int(text[:4]), int(text[5:7]), int(text[8:10]))
        seconds = days * 86_400 + int(text[11:13]) * 3_600 + int(text[14:16]) * 60 + int(text[17:19])
        unix = seconds + int(text[20:23]) / 1000
        if encode_time(unix) == text:
            return unix
    except ValueError:
        pass
    raise ValueError("not a time like 2025-03-01T12:00:00.000Z")


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970 in the Gregorian calendar. By hand: datetime and strptime take 5 ms to import."""
    years = year - (month <= 2)  # counted from March, so that the leap day is the last of the year
    days = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return years * 365 + years // 4 - years // 100 + years // 400 + days - 719_468
