"""Writes for people: aligned tables, colour on a terminal, and nothing that a peer could steer the terminal with."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from meshctl import durations
from meshd.control.encodings import decode_time

# Specification
_SEQUENCES = re.compile(  # ECMA-48: control sequences, strings up to their end, other escapes; 7 and 8 bit forms
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[PX^_\]]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(  # C0 but newline and tab, DEL, C1; line separators; marks that turn the direction; surrogates
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


def clean_text(text: str) -> str:
    """Without terminal escapes, control characters, marks that reverse the text. Newlines stay, tabs are expanded."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text)).expandtabs(4)


def clean(text: str) -> str:
    """The same on one line."""
    return " ".join(clean_text(text).split())


def is_coloured() -> bool:
    """Whether standard output is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str) -> str:
    """In colour, if that is wanted."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and is_coloured() else text


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    colour_of: dict[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print columns, aligned by spaces. Cells are cleaned here; ``colour_of`` maps a cell's text to a colour.

    ``notes``: for each row what to print below it, indented; nothing if empty.
    """
    cleaned = [[clean(cell) or "-" for cell in row] for row in rows]
    widths = [max(_width(row[n]) for row in [head, *cleaned]) for n in range(len(head))]
    print(painted(_line(head, widths, {}), "bold"))
    for number, row in enumerate(cleaned):
        print(_line(row, widths, colour_of or {}))
        if number < len(notes) and notes[number]:
            print("    " + painted(clean(notes[number]), "dim"))


def _line(cells: Sequence[str], widths: Sequence[int], colour_of: dict[str, str]) -> str:
    padded = []
    for n, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        padding = "" if n == len(cells) - 1 else " " * (width - _width(cell))
        padded.append(painted(cell, colour_of.get(cell, "")) + padding)
    return "  ".join(padded)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def facts(pairs: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Print names and values, aligned; values are cleaned here."""
    shown = list(pairs)
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{' ' * indent}{painted(name.ljust(width), 'dim')}  {clean(value)}")


def document(value: object) -> None:
    """Print one JSON document on one line; ASCII alone, so that a terminal is safe from it."""
    print(json.dumps(value))


def note(text: str) -> None:
    """Say something beside the result: to standard error."""
    sys.stdout.flush()
    print(clean(text), file=sys.stderr, flush=True)


def confirmed(question: str) -> bool:
    """Ask whoever sits at the terminal, on standard error; no answer means no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def warnings(texts: Iterable[str]) -> None:
    """What the daemon warns of, to standard error."""
    for text in texts:
        note(f"Warning: {text}")


def seconds_since(moment: str) -> float:
    """How long ago a time of the control socket was; 0 for one that is still ahead of this clock."""
    return max(0.0, time.time() - decode_time(moment))


def ago(moment: str | None) -> str:
    """How long ago a time of the control socket was; empty for None."""
    return "" if moment is None else durations.show(seconds_since(moment))


def ahead(moment: str | None) -> str:
    """How far ahead it is; ``expired`` if it is not."""
    if moment is None:
        return ""
    left = decode_time(moment) - time.time()
    return durations.show(left) if left > 0 else "expired"


def local_time(moment: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time of the control socket by the clock on the wall."""
    return time.strftime(form, time.localtime(decode_time(moment)))


def local_and_utc(moment: str) -> str:
    """A time of the control socket by the clock on the wall, and for who has another one."""
    there, here = time.gmtime(decode_time(moment)), time.localtime(decode_time(moment))
    if there[:6] == here[:6]:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", there)
    form = "%H:%M:%S UTC" if there[:3] == here[:3] else "%Y-%m-%d %H:%M:%S UTC"
    return f"{local_time(moment)} ({time.strftime(form, there)})"


def message(entry: dict[str, Any]) -> None:
    """Print one application message. Further lines are indented, so that none can pass for another message's head."""
    from meshd.control.encodings import decode_bytes

    body = decode_bytes(entry["body"])
    try:
        text = clean_text(body.decode()).rstrip("\n")
    except UnicodeDecodeError:
        text = f"({len(body)} bytes that are no text; meshctl inbox --json has them)"
    application = "" if entry["application"] == "message" else f" [{clean(entry['application'])}]"
    head = f"{local_time(entry['received_at'])} {clean(entry['name'])}{application}:"
    print(painted(head, "bold"), text.replace("\n", "\n    "))
