"""Requests checked against the table before the daemon sees them; results, by those who want to be sure of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from meshd.control.encodings import decode_bytes, decode_time
from meshd.control.methods import METHODS, Method, Param
from meshd.control.shapes import SHAPES, Field
from meshd.errors import Code, ControlError
from meshd.ids import from_text

# Policy
MAX_ECHO_CHARS = 64  # of what the caller sent, in an error; a longer one is not worth a suggestion either


def find_method(name: str) -> Method:
    """The method of that name. Raises ControlError METHOD_NOT_FOUND with the nearest one there is."""
    method = METHODS.get(name)
    if method is None:
        raise ControlError(Code.METHOD_NOT_FOUND, f"{_echo(name)} is not one of them.{suggestion(name, METHODS)}")
    return method


def check_params(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with defaults filled in; null counts as left out.

    Raises ControlError INVALID_PARAMS, or TOO_LARGE for bytes beyond the limit, naming the parameter.
    """
    known = {param.name: param for param in method.params}
    for name in given:
        if name not in known:
            there = f" It takes {', '.join(known)}." if known else " It takes none."
            hint = suggestion(name, known) or there
            raise ControlError(Code.INVALID_PARAMS, f"{method.name} has no parameter {_echo(name)}.{hint}")
    return {name: _checked(method, param, given.get(name)) for name, param in known.items()}


def _checked(method: Method, param: Param, value: object) -> object:
    if value is None:
        if param.required:
            raise ControlError(Code.INVALID_PARAMS, f"{method.name} needs {param.name}: {param.doc}")
        return param.default
    problem = problem_with(param.kind, value)
    if problem:
        raise ControlError(Code.INVALID_PARAMS, f"{param.name}: {problem}.")
    measure, unit = _measured(param.kind, value)
    if param.low is not None and measure < param.low:
        raise ControlError(Code.INVALID_PARAMS, f"{param.name}: at least {param.low:g}{unit}, not {measure:g}.")
    if param.high is not None and measure > param.high:
        code = Code.TOO_LARGE if param.kind == "bytes" else Code.INVALID_PARAMS
        raise ControlError(code, f"{param.name}: at most {param.high:.15g}{unit}, not {measure:.15g}.")
    return value


def _measured(kind: str, value: Any) -> tuple[float, str]:
    """What ``low`` and ``high`` of a parameter bound."""
    if kind == "bytes":
        return len(decode_bytes(value)), " bytes"
    if kind == "integer":
        return value, ""
    if kind == "seconds":
        return value, " s"
    if kind.startswith("["):
        return len(value), " entries"
    return (len(value), " characters") if isinstance(value, str) else (0, "")


def problem_with(kind: str, value: object) -> str:
    """What keeps a JSON value from being of that kind (see ``shapes``), for people; empty if nothing does."""
    if kind.endswith("?"):
        return "" if value is None else problem_with(kind[:-1], value)
    if kind.startswith("["):
        if not isinstance(value, list):
            return f"a list, not {_named(value)}"
        return _first(_under(f"entry {n}", problem_with(kind[1:-1], entry)) for n, entry in enumerate(value))
    if kind.startswith("{"):
        if not isinstance(value, dict):
            return f"an object, not {_named(value)}"
        return _first(_under(key, problem_with(kind[1:-1], entry)) for key, entry in value.items())
    if kind in SHAPES:
        return problem_in(SHAPES[kind], value)
    if "|" in kind:
        return "" if isinstance(value, str) and value in kind.split("|") else f"one of {kind.replace('|', ', ')}"
    return _problem_with_plain(kind, value)


def problem_in(fields: Iterable[Field], value: object) -> str:
    """What keeps a JSON value from being an object of exactly these fields; empty if nothing does. Raises nothing."""
    if not isinstance(value, dict):
        return f"an object, not {_named(value)}"
    expected = {field.name: field for field in fields}
    odd = sorted(set(expected) ^ set(value))
    if odd:
        return f"{odd[0]} is {'missing' if odd[0] in expected else 'no field of it'}"
    return _first(_under(name, problem_with(field.kind, value[name])) for name, field in expected.items())


def _problem_with_plain(kind: str, value: object) -> str:
    match kind:
        case "any":
            return ""
        case "boolean":
            return "" if isinstance(value, bool) else f"true or false, not {_named(value)}"
        case "integer":
            fits = isinstance(value, int) and not isinstance(value, bool)
            return "" if fits else f"a whole number, not {_named(value)}"
        case "number":
            fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
            return "" if fits else f"a number, not {_named(value)}"
        case "seconds":
            fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
            return "" if fits else f"a number of seconds, not {_named(value)}"
        case "string" | "bytes" | "id" | "time":
            if not isinstance(value, str):
                return f"text, not {_named(value)}"
            return _problem_with_text(kind, value)
    raise LookupError(f"{kind} is no kind")


def _problem_with_text(kind: str, text: str) -> str:
    try:
        if kind == "bytes":
            decode_bytes(text)
        elif kind == "id":
            from_text(text)
        elif kind == "time":
            decode_time(text)
    except ValueError as error:
        return str(error)
    return ""


def suggestion(word: str, words: Iterable[str]) -> str:
    """`` Did you mean …?`` with the nearest of ``words``, or nothing."""
    nearest = difflib.get_close_matches(word, list(words), 1) if len(word) <= MAX_ECHO_CHARS else []
    return f" Did you mean {nearest[0]}?" if nearest else ""


def _echo(text: str) -> str:
    return ascii(text if len(text) <= MAX_ECHO_CHARS else text[:MAX_ECHO_CHARS] + "…")


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")


def _under(key: str, problem: str) -> str:
    return f"{key}: {problem}" if problem else ""


def _named(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "null")
