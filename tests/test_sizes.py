"""What the sources promise about themselves: sizes, docstrings, and names that are kept in one table each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.core.notifications import NOTIFICATIONS
from meshd.core.state import TABLES

ROOT = Path(__file__).parent.parent
MAX_LINES = 450

SOURCES = sorted(path for room in ("meshd", "meshctl") for path in (ROOT / room).rglob("*.py"))
CORE = sorted((ROOT / "meshd/core").rglob("*.py"))
BELOW = sorted(path for room in ("meshd/crypto", "meshd/wire") for path in (ROOT / room).rglob("*.py"))
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def calls(paths: list[Path]) -> Iterator[tuple[Path, ast.Call, str]]:
    """Every call, with the last part of what is called."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                function = node.func
                if isinstance(function, ast.Attribute):
                    yield path, node, function.attr
                elif isinstance(function, ast.Name):
                    yield path, node, function.id


def literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def on_context(call: ast.Call) -> bool:
    """``self._ctx.x(…)``, ``ctx.x(…)``, or within the context itself ``self.x(…)``."""
    assert isinstance(call.func, ast.Attribute)
    return ast.unparse(call.func.value) in ("self._ctx", "ctx", "self")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_packages_import_nothing_of_ours() -> None:
    """So that importing one module of a room does not cost the whole room."""
    for path in SOURCES:
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text())
            assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)), path


def test_notifications_are_those_of_the_table() -> None:
    seen: set[str] = set()
    for path, call, name in calls(CORE):
        if name != "notify" or not isinstance(call.func, ast.Attribute) or not on_context(call):
            continue
        where = f"{path}:{call.lineno}"
        kind = literal(call.args[0])
        assert kind is not None, f"{where}: the name is no literal"
        assert kind in NOTIFICATIONS, f"{where}: {kind} is not in the table"
        given = [keyword.arg for keyword in call.keywords]
        assert sorted(map(str, given)) == sorted(NOTIFICATIONS[kind].fields), f"{where}: {kind} with {given}"
        seen.add(kind)
    elsewhere = "".join(path.read_text() for path in SOURCES if path.name != "notifications.py")
    for kind, notification in NOTIFICATIONS.items():
        assert kind in seen or f'"{kind}"' in elsewhere, f"nothing ever says {kind}"
        assert notification.level in ("debug", "info", "warning")
        assert notification.doc.endswith(".")
        assert NAME.match(kind)


def test_counters_are_named_by_us_alone() -> None:
    """A literal, or a literal and a reason that is one: no peer can make the map of counters grow."""
    counted = 0
    for path, call, name in calls(CORE):
        if name != "count" or not isinstance(call.func, ast.Attribute) or not on_context(call):
            continue
        where = f"{path}:{call.lineno}"
        counter = call.args[0]
        options = [counter.body, counter.orelse] if isinstance(counter, ast.IfExp) else [counter]
        for option in options:
            counted += 1
            if isinstance(option, ast.JoinedStr):
                variables = [part.value for part in option.values if isinstance(part, ast.FormattedValue)]
                assert [ast.unparse(part) for part in variables] in (["reason"], ["rejected.reason"]), where
            else:
                text = literal(option)
                assert text is not None, f"{where}: the name is no literal"
                assert NAME.match(text), where
    assert counted > 30


def test_reasons_are_named_by_us_alone() -> None:
    """The other half of the counters' names: of ``Rejected``, of a failed link, of whatever ``_why_not`` says."""
    for path, call, name in calls(CORE + BELOW):
        reason: ast.expr | None = None
        if name == "Rejected":
            reason = call.args[0]
        elif name == "fail" and path in CORE:
            reason = call.args[1]
        if reason is not None:
            text = literal(reason)
            assert text is not None, f"{path}:{call.lineno}: the reason is no literal"
            assert NAME.match(text), f"{path}:{call.lineno}"
    for path in CORE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "_why_not":
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return):
                        assert isinstance(inner.value, ast.Constant), f"{path}:{inner.lineno}"


def test_tables_are_those_of_the_state() -> None:
    used: set[str] = set()
    for _, call, name in calls(CORE):
        if name in ("Put", "Delete", "Clear", "delete"):
            where = 0
        elif name == "rows" or (name == "get" and isinstance(call.func, ast.Attribute)):
            where = 1 if name == "rows" else 0
            if name == "get" and ast.unparse(call.func.value) != "stored":  # type: ignore[attr-defined]
                continue
        else:
            continue
        table = literal(call.args[where])
        if table is not None:
            used.add(table)
    assert used == set(TABLES)
