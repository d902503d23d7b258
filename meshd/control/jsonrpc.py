"""JSON-RPC 2.0, one object a line: lines to items and back, for both ends. No I/O, standard library only.

Nothing from outside raises. A line that is no message becomes ``Malformed``, which a server answers and a client
reports. A line that is too long becomes one ``Malformed`` as soon as the limit is passed; the rest of it is skipped up
to its newline, and the connection lives on. Empty lines mean nothing. Batches (arrays) and parameters by position are
refused. The same bytes give the same items however they are cut up.

Named tuples rather than dataclasses: ``meshctl`` imports this, and ``import dataclasses`` alone takes 12 ms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

# Specification
VERSION = "2.0"  # JSON-RPC 2.0 section 4

# Policy
PROTOCOL = 1  # of the control socket; counted up when a client of the old one would misread the new one
MAX_LINE_SIZE = 1 << 20  # bytes of a request, newline not counted: the largest message body takes 88 KB
MAX_ANSWER_SIZE = 256 << 20  # bytes a client takes from its daemon: a full inbox listed at once stays below it
MAX_DEPTH = 32  # arrays and objects in one another; the deepest request of the table has 2

# Symbols of ``meshd.errors.Code`` that a line can earn. Written out here to keep that import out of ``meshctl``.
PARSE_ERROR = "parse_error"
INVALID_REQUEST = "invalid_request"
INVALID_PARAMS = "invalid_params"
TOO_LARGE = "too_large"

RequestKey: TypeAlias = str | int | float | None  # "id" of JSON-RPC 2.0 section 4


class Request(NamedTuple):
    """A call that wants an answer."""

    key: RequestKey
    method: str
    params: dict[str, Any]


class Notification(NamedTuple):
    """A message that wants none."""

    method: str
    params: dict[str, Any]


class Answer(NamedTuple):
    """The result of a call."""

    key: RequestKey
    result: Any


class Failure(NamedTuple):
    """The error a call ended with. ``data`` is what stands under ``error.data`` if that is an object, else empty."""

    key: RequestKey
    code: int
    message: str
    data: dict[str, Any]


class Malformed(NamedTuple):
    """A line that is none of these. ``key`` is its id where one could be made out, ``symbol`` one of those above."""

    key: RequestKey
    symbol: str
    detail: str


Item: TypeAlias = Request | Notification | Answer | Failure | Malformed


class LineReader:
    """Takes bytes as they come and gives the items that are complete."""

    def __init__(self, max_line_size: int = MAX_LINE_SIZE) -> None:
        self._max_line_size = max_line_size
        self._buffer = bytearray()
        self._searched = 0  # bytes at the front of the buffer known to hold no newline
        self._skipping = False  # in a line that was too long

    def feed(self, data: bytes) -> list[Item]:
        """Never raises. Holds at most ``max_line_size`` bytes beyond ``data``."""
        self._buffer += data
        items: list[Item] = []
        start = 0
        while True:
            end = self._buffer.find(b"\n", max(start, self._searched))
            if end < 0:
                break
            if self._skipping:
                self._skipping = False
            elif end - start > self._max_line_size:
                items.append(self._too_long())
            else:
                line = bytes(self._buffer[start:end])
                if line.strip():
                    items.append(decode(line))
            start = end + 1
        del self._buffer[:start]
        if not self._skipping and len(self._buffer) > self._max_line_size:
            items.append(self._too_long())
            self._skipping = True
        if self._skipping:
            self._buffer.clear()
        self._searched = len(self._buffer)
        return items

    def _too_long(self) -> Malformed:
        return Malformed(None, TOO_LARGE, f"A line may have {self._max_line_size} bytes.")


def decode(line: bytes) -> Item:
    """One line, without its newline, to what it is. Never raises."""
    try:
        value = json.loads(line.decode(), parse_float=_finite, parse_constant=_finite)
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # finds halves of surrogate pairs, which no text may hold
    except UnicodeError:
        return Malformed(None, PARSE_ERROR, "It is not UTF-8 text throughout.")
    except ValueError as error:
        return Malformed(None, PARSE_ERROR, f"{error}."[:200])
    except RecursionError:
        return Malformed(None, PARSE_ERROR, _TOO_DEEP)
    if not _is_shallow(value):
        return Malformed(None, PARSE_ERROR, _TOO_DEEP)
    if isinstance(value, list):
        return Malformed(None, INVALID_REQUEST, "Batches are not spoken here: send one object a line.")
    if not isinstance(value, dict):
        return Malformed(None, INVALID_REQUEST, "Send one JSON object a line.")
    return _classify(value)


_TOO_DEEP = f"Arrays and objects may be nested {MAX_DEPTH} deep."


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # so are infinity and not-a-number, which JSON cannot say and we never send back
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for entry in level:
            if isinstance(entry, dict):
                deeper.extend(entry.values())
            elif isinstance(entry, list):
                deeper.extend(entry)
            else:
                continue
        level = [entry for entry in deeper if isinstance(entry, (dict, list))]
        if not level:
            return True
    return False


def _classify(message: dict[str, Any]) -> Item:
    key = message.get("id")
    if isinstance(key, bool) or not isinstance(key, (str, int, float, type(None))):
        return Malformed(None, INVALID_REQUEST, '"id" has to be a number or a string.')
    if message.get("jsonrpc") != VERSION:
        return Malformed(key, INVALID_REQUEST, 'Add "jsonrpc":"2.0".')
    if "method" not in message:
        return _classify_answer(key, message)
    method = message["method"]
    if not isinstance(method, str):
        return Malformed(key, INVALID_REQUEST, '"method" has to be a string.')
    params = message.get("params", {})
    if not isinstance(params, dict):
        return Malformed(key, INVALID_PARAMS, '"params" has to be an object: parameters go by name.')
    return Request(key, method, params) if "id" in message else Notification(method, params)


def _classify_answer(key: RequestKey, message: dict[str, Any]) -> Item:
    if "result" in message and "error" not in message and "id" in message:
        return Answer(key, message["result"])
    error = message.get("error")
    if "result" not in message and isinstance(error, dict):
        code, text, data = error.get("code"), error.get("message"), error.get("data")
        if isinstance(code, int) and not isinstance(code, bool) and isinstance(text, str):
            return Failure(key, code, text, data if isinstance(data, dict) else {})
    return Malformed(key, INVALID_REQUEST, 'There is no "method".')


def encode_request(key: RequestKey, method: str, params: Mapping[str, Any]) -> bytes:
    """A line with its newline; so are the others."""
    return _line({"jsonrpc": VERSION, "id": key, "method": method, "params": params})


def encode_notification(method: str, params: Mapping[str, Any]) -> bytes:
    """A message that wants no answer."""
    return _line({"jsonrpc": VERSION, "method": method, "params": params})


def encode_answer(key: RequestKey, result: Any) -> bytes:
    """The result of the call that had this id."""
    return _line({"jsonrpc": VERSION, "id": key, "result": result})


def encode_failure(key: RequestKey, code: int, message: str, data: Mapping[str, Any]) -> bytes:
    """The error of the call that had this id; None where the id could not be made out."""
    return _line({"jsonrpc": VERSION, "id": key, "error": {"code": code, "message": message, "data": data}})


def _line(message: dict[str, Any]) -> bytes:
    # ASCII only: a terminal that shows the line is safe from everything in it.
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
