"""QR codes in a terminal: two rows of modules in one line of half blocks."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

# Specification
QUIET_ZONE = 4  # modules, on each side: ISO/IEC 18004 section 6.3.8

# Policy
MAX_TEXT_SIZE = 1_273  # bytes: a code of 117 modules, version 25 at level L; cameras fail at what is larger on a screen
# Fixed colours of the 256, since a theme may turn "black" and "white" into anything: dark modules are dark on a light
# terminal as well as on a dark one.
_DARK_ON_LIGHT, _RESET = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


class QrError(Exception):
    """The code cannot be shown here. The text says why, and what to do instead."""


def print_qr(text: str, stream: TextIO) -> None:
    """Print ``text`` as a QR code. Raises QrError: too long, terminal too narrow or without the characters.

    Without colours (no terminal, NO_COLOR) the blocks are the light modules, as it has to be on a dark ground.
    """
    rows = modules(text)
    width = len(rows[0])
    if stream.isatty():
        columns = shutil.get_terminal_size().columns
        if columns < width:
            raise QrError(
                f"The QR code takes {width} columns and {(width + 1) // 2} lines, and this terminal has {columns} "
                "columns. Enlarge the window, or make its letters smaller, and try again."
            )
    try:
        "".join(_BLOCKS.values()).encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        raise QrError(
            f"This terminal has no block characters ({stream.encoding}); try again with LC_ALL=C.UTF-8."
        ) from None
    coloured = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for upper, lower in zip(rows[::2], [*rows[1::2], [False] * width], strict=False):
        pairs = zip(upper, lower, strict=True)
        if coloured:
            line = _DARK_ON_LIGHT + "".join(_BLOCKS[pair] for pair in pairs) + _RESET
        else:
            line = "".join(_BLOCKS[not above, not below] for above, below in pairs)
        stream.write(line + "\n")
    stream.flush()


def modules(text: str) -> list[list[bool]]:
    """The code with its quiet zone, rows from the top; True is dark. Raises QrError for a text that is too long."""
    size = len(text.encode())
    if size > MAX_TEXT_SIZE:
        raise QrError(
            f"A QR code of {size:,} bytes could not be read from a screen; {MAX_TEXT_SIZE:,} are the most. Hand the "
            "text itself over instead: copy it, or pipe it through ssh."
        )
    try:
        import segno  # takes 30 ms, which only who wants a code should wait
    except ImportError:
        raise QrError("QR codes take the Python package segno: pip install segno") from None
    # The lowest level of correction: nothing covers a screen, and every module less makes the others larger.
    code = segno.make_qr(text, error="l", boost_error=False)
    return [[bool(module) for module in row] for row in code.matrix_iter(border=QUIET_ZONE)]
