"""Every counter that tells of links has a row in docs/operations.md, and every row one that is counted somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from meshd.core.overlay.neighbors import LOSS_REASONS

ROOT = Path(__file__).parents[2]
SHELL = [*(ROOT / "meshd/links").glob("*.py"), ROOT / "meshd/wire/stun_responder.py"]
CORE = [
    ROOT / "meshd/core" / f"{name}.py"
    for name in (
        "overlay/liveness",
        "overlay/neighbors",
        "signaling/resuming",
        "signaling/sessions",
        "signaling/signaling",
    )
]
# Formed from a variable: all that may stand there.
OPEN_ENDED = {
    "links_lost_": {*LOSS_REASONS, "other"},
    "link_": set[str](),  # the reasons that ``Neighbors.fail`` is given, wherever that is
}


def nodes(files: list[Path]) -> Iterator[ast.AST]:
    for path in files:
        yield from ast.walk(ast.parse(path.read_text()))


def texts(within: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(within) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def calls(files: list[Path], method: str) -> Iterator[ast.Call]:
    for node in nodes(files):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node


def counted_in_shell() -> set[str]:
    """The keys of everything named ``counters``."""
    found: set[str] = set()
    for node in nodes(SHELL):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("counters"):
            key = node.slice
            found |= texts(key.body) | texts(key.orelse) if isinstance(key, ast.IfExp) else texts(key)
    return {f"links_{name}" for name in found}


def counted_in_core() -> set[str]:
    refused = set[str]().union(
        *(
            texts(call.args[1])
            for call in calls(sorted((ROOT / "meshd/core").rglob("*.py")), "fail")
            if len(call.args) > 1
        )
    )
    found: set[str] = set()
    for call in calls(CORE, "count"):
        match call.args[0]:
            case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), _]):
                found |= {prefix + ending for ending in OPEN_ENDED[prefix] or refused}
            case argument:
                found |= texts(argument)
    return found


def documented() -> list[str]:
    section = (ROOT / "docs/operations.md").read_text().partition("#### Of links")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])]


def test_table_and_source_agree() -> None:
    assert set(documented()) == counted_in_shell() | counted_in_core()


def test_no_counter_has_two_rows() -> None:
    assert len(documented()) == len(set(documented()))
