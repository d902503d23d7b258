"""docs/performance.md: each row has a block of its own there, so that rows may be measured one at a time."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.table import HEADS, Figure

# Policy
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
_BLOCK = re.compile(r"<!-- row (?P<name>[a-z0-9_]+) -->\n(?P<text>.*?)<!-- end of row -->\n", re.DOTALL)


def write_row(name: str, figures: Sequence[Figure], remark: str, order: Sequence[str], page: Path = PAGE) -> None:
    """Put a row's table into the page in the place of an older one; the other rows stay. ``order`` is that of all."""
    before, _, rest = page.read_text().partition(BEGIN)
    section, _, after = rest.partition(END)
    blocks = {match["name"]: match["text"] for match in _BLOCK.finditer(section)}
    blocks[name] = _table(name, figures, remark)
    shown = [f"<!-- row {each} -->\n{blocks[each]}<!-- end of row -->\n" for each in order if each in blocks]
    page.write_text(before + BEGIN + "\n\n" + "\n".join(shown) + "\n" + END + after)


def _table(name: str, figures: Sequence[Figure], remark: str) -> str:
    rows = [HEADS, ("---",) * len(HEADS), *(figure.cells() for figure in figures)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"### {name}", "", *lines, "", remark, ""])


def commit() -> str:
    """What is measured, as git names it; with ``+`` where files other than the page differ from it."""
    root = PAGE.parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("diff", "--name-only", "HEAD", "--", f":!{PAGE.relative_to(root)}")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
