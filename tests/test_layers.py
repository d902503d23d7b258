"""The house holds: who imports whom, and what the pure rooms keep out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lower first. A module may import its own room and those of a lower rank; rooms of one rank know nothing of each other.
RANKS = (
    (
        "meshd",
        "meshd.ids",
        "meshd.errors",
        "meshd.config",
        "meshd.config_checks",
        "meshd.config_push",
        "meshd.config_setting",
        "meshd.config_toml",
        "meshd.exposition",
        "meshd.ice_servers",
        "meshd.push_services",
        "meshd.rates",
        "meshd.special_addresses",
    ),
    ("meshd.wire.codec",),
    ("meshd.crypto",),
    ("meshd.wire",),
    ("meshd.core", "meshd.transport"),
    ("meshd.systemd", "meshd.metrics_server", "meshd.process", "meshd.recording"),
    ("meshd.control", "meshd.sim", "meshd.links", "meshd.push", "meshd.portmap", "meshd.netcheck"),
    ("meshd.daemon",),
    ("meshd.__main__",),
)
RANK_OF = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
GROUND_FLOOR = RANKS[0]

EVENT_LOOPS = {"asyncio", "aiortc", "aioice", "uvloop"}
HEAVY = {"trio", "aiortc", "aioice", "cryptography", "msgpack", "structlog", "asyncio", "httpx", "hypercorn"}

# Everything else of the standard library might keep time, draw lots, or touch the machine.
PURE_MODULES = {
    "__future__",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "ipaddress",
    "itertools",
    "math",
    "re",
    "struct",
    "typing",
    "zlib",
}
MUTATORS = {"append", "add", "update", "setdefault", "pop", "popitem", "remove", "discard", "clear", "extend", "insert"}


def sources(*rooms: str) -> list[Path]:
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    assert found, rooms
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that is imported anywhere in the file, and its line; of ``from a import b``, ``a.b`` if b is one."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / whole.replace(".", "/")).with_suffix(".py").exists()
                yield (whole if is_module else node.module), node.lineno


def room_of(module: str) -> str:
    while module not in RANK_OF:
        module, _, last = module.rpartition(".")
        assert module, f"no room for {last}"
    return module


def ids(paths: list[Path]) -> list[str]:
    return [name_of(path) for path in paths]


OURS = sources("meshd")
PURE = [
    *sources("meshd/core", "meshd/wire", "meshd/transport"),
    *(ROOT / "meshd" / name for name in ("ids.py", "errors.py", "config.py")),
]


@pytest.mark.parametrize("path", OURS, ids=ids(OURS))
def test_a_room_imports_only_lower_rooms(path: Path) -> None:
    own = room_of(name_of(path))
    for module, line in imports(path):
        if module.partition(".")[0] not in ("meshd", "meshctl", "tests", "demo", "bench"):
            continue
        assert module.startswith("meshd"), f"{path}:{line} imports {module}"
        other = room_of(module)
        allowed = other == own or RANK_OF[other] < RANK_OF[own] or {own, other} <= set(GROUND_FLOOR)
        # one package, two ranks: the codec lies below the rest of its room
        allowed = allowed or (own == "meshd.wire.codec" and module == "meshd.wire")
        assert allowed, f"{path}:{line}: {own} imports {other}"


def test_only_links_knows_the_other_event_loop() -> None:
    for path in OURS:
        if room_of(name_of(path)) != "meshd.links":
            loops = {module for module, _ in imports(path) if module.partition(".")[0] in EVENT_LOOPS}
            assert not loops, f"{path} imports {loops}"


def test_meshctl_imports_little() -> None:
    """The standard library, and of meshd the control room and errors: it must start in a blink."""
    reached: set[str] = set()
    to_see = sources("meshctl")
    while to_see:
        for module, line in imports(path := to_see.pop()):
            top = module.partition(".")[0]
            assert top not in HEAVY, f"{path}:{line} imports {module}"
            if top != "meshd" or module in reached:
                continue
            assert room_of(module) in ("meshd.control", *GROUND_FLOOR), f"{path}:{line} imports {module}"
            reached.add(module)
            file = (ROOT / module.replace(".", "/")).with_suffix(".py")
            to_see.append(file if file.exists() else ROOT / module.replace(".", "/") / "__init__.py")
    assert "meshd.control.jsonrpc" in reached


@pytest.mark.parametrize("path", PURE, ids=ids(PURE))
def test_pure_rooms_have_no_clock_no_dice_and_no_loop(path: Path) -> None:
    extra = {
        "meshd.wire.codec": {"msgpack"},
        "meshd.config": {"difflib", "urllib"},
        "meshd.wire.call_json": {"json"},  # what web pages write
        "meshd.transport.chunks": {"google_crc32c"},  # arithmetic that Python is too slow for
    }.get(name_of(path), set())
    for module, line in imports(path):
        top = module.partition(".")[0]
        if top == "meshd":
            continue
        if module == "random" and name_of(path).startswith("meshd.core"):
            continue  # the type; see below
        assert top in PURE_MODULES | extra, f"{path}:{line} imports {module}"
    tree = parse(path)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global), f"{path}:{node.lineno}"  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            assert [alias.name for alias in node.names] == ["Random"], f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("Random", "open", "print", "input", "exec", "eval", "id", "hash"), (
                f"{path}:{node.lineno} calls {node.func.id}"
            )


def test_randomness_of_crypto_comes_from_one_file() -> None:
    for path in sources("meshd/crypto"):
        for module, line in imports(path):
            if name_of(path) != "meshd.crypto.suite":
                assert module.partition(".")[0] not in ("os", "secrets", "random", "time"), f"{path}:{line}"
    suite = ast.dump(parse(ROOT / "meshd/crypto/suite.py"))
    assert "'urandom'" in suite


@pytest.mark.parametrize("path", PURE, ids=ids(PURE))
def test_pure_rooms_keep_no_state_in_modules(path: Path) -> None:
    """What a module holds is a constant: named as one, and never changed by anybody in it."""
    tree = parse(path)
    constants: set[str] = set()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    constants.add(name.id)
                    value = node.value  # type: ignore[attr-defined]
                    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
                        assert name.id.isupper(), f"{path}:{node.lineno}: {name.id} looks like state"
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in MUTATORS:
            held = inner.func.value
            assert not (isinstance(held, ast.Name) and held.id in constants), f"{path}:{inner.lineno}"
        if isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store | ast.Del):
            held = inner.value
            assert not (isinstance(held, ast.Name) and held.id in constants), f"{path}:{inner.lineno}"


# -- the order of a set is nobody's business --------------------------------------------------------------------------


def is_set(node: ast.expr | None, known: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return is_set(node.left, known) or is_set(node.right, known)
    return (isinstance(node, ast.Name) and node.id in known) or (isinstance(node, ast.Attribute) and node.attr in known)


def sets_in(tree: ast.AST, wanted: type[ast.Name] | type[ast.Attribute], known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, value, annotation = node.targets, node.value, ""
        elif isinstance(node, ast.AnnAssign):
            targets, value, annotation = [node.target], node.value, ast.unparse(node.annotation)
        else:
            continue
        if annotation.startswith(("set", "frozenset")) or is_set(value, known):
            for target in targets:
                if isinstance(target, ast.Name) and wanted is ast.Name:
                    found.add(target.id)
                elif isinstance(target, ast.Attribute) and wanted is ast.Attribute:
                    found.add(target.attr)
    return found


def iterated(tree: ast.AST) -> Iterator[ast.expr]:
    """Expressions whose order is looked at. ``sorted``, ``len``, ``sum``, ``any``, ``in`` do not care."""
    indifferent: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("sorted", "sum", "any", "all", "set", "frozenset", "min", "max", "len"):
                indifferent.update(id(argument) for argument in node.args)
            elif node.func.id in ("list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "deque"):
                yield from node.args
    for node in ast.walk(tree):
        if isinstance(node, ast.For):
            yield node.iter
        elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp) and id(node) not in indifferent:
            yield from (generator.iter for generator in node.generators)
        elif isinstance(node, ast.Starred):
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
            yield from [node.func.value] if node.func.attr == "pop" else []


@pytest.mark.parametrize("path", PURE, ids=ids(PURE))
def test_no_order_of_a_set_leaks(path: Path) -> None:
    tree = parse(path)
    attributes = sets_in(tree, ast.Attribute, set())
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for scope in [tree, *scopes]:
        known = attributes | sets_in(scope, ast.Name, attributes)
        for expression in iterated(scope):
            assert not is_set(expression, known), f"{path}:{expression.lineno}: {ast.unparse(expression)}"


@pytest.mark.parametrize(
    "code",
    [
        "for x in {1, 2}: pass",
        "def f():\n  a = set()\n  return list(a)",
        "class A:\n  def __init__(self): self.a = set()\n  def f(self): return [x for x in self.a]",
        "def f():\n  a: set[int] = g()\n  return (*a,)",
        "def f(b):\n  return tuple(set(b) - {1})",
    ],
)
def test_the_check_for_sets_finds_them(code: str) -> None:
    tree = ast.parse(code)
    known = sets_in(tree, ast.Attribute, set())
    known |= sets_in(tree, ast.Name, known)
    assert any(is_set(expression, known) for expression in iterated(tree))
