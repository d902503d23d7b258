"""Any bytes, cut up in any way, give the same items and never an exception."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.control import jsonrpc
from meshd.control.jsonrpc import Answer, Failure, LineReader, Malformed, Notification, Request, decode
from meshd.errors import Code

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(st.text(max_size=4), kids, max_size=3)
)
NEARLY = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]), JSON | st.just("2.0"), max_size=6
)
LINES = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | NEARLY.map(lambda value: json.dumps(value).encode())
    | st.just(jsonrpc.encode_request(1, "node.status", {})[:-1])
)
ITEMS = (Request, Notification, Answer, Failure, Malformed)


@given(LINES)
def test_any_line_is_some_item(line):
    item = decode(line)
    assert isinstance(item, ITEMS)
    if isinstance(item, Malformed):
        assert Code[item.symbol.upper()]
        assert item.detail


@given(st.lists(LINES, max_size=6).map(b"\n".join), st.lists(st.integers(0, 300), max_size=12))
def test_cutting_does_not_matter(stream, cuts):
    whole = LineReader(50).feed(stream)
    reader = LineReader(50)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [item for a, b in itertools.pairwise(edges) for item in reader.feed(stream[a:b])]
    assert repr(pieces) == repr(whole)


@given(st.lists(LINES, max_size=4).map(b"\n".join))
def test_byte_by_byte_is_the_same_too(stream):
    reader = LineReader(30)
    pieces = [item for byte in stream for item in reader.feed(bytes([byte]))]
    assert repr(pieces) == repr(LineReader(30).feed(stream))


def test_what_is_encoded_is_decoded():
    assert decode(jsonrpc.encode_request("a", "x.y", {"b": 1})) == Request("a", "x.y", {"b": 1})
    assert decode(jsonrpc.encode_notification("x", {"b": 1})) == Notification("x", {"b": 1})
    assert decode(jsonrpc.encode_answer(3, {"ok": True})) == Answer(3, {"ok": True})
    assert decode(jsonrpc.encode_failure(None, -32700, "no", {"symbol": "x"})) == Failure(
        None, -32700, "no", {"symbol": "x"}
    )


def test_encoded_lines_are_safe_to_show():
    line = jsonrpc.encode_answer(1, "\x1b[31m\u202e\x9b\n")
    assert line.isascii()
    assert all(byte >= 0x20 for byte in line[:-1])


@pytest.mark.parametrize(
    ("line", "symbol", "says"),
    [
        (b"{", "parse_error", "line 1"),
        (b"\xff\xfe{}", "parse_error", "UTF-8"),
        (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', "parse_error", "UTF-8"),
        (b'{"a":NaN}', "parse_error", "NaN"),
        (b'{"a":1e999}', "parse_error", "finite"),
        (b'{"a":' + b"9" * 5000 + b"}", "parse_error", ""),
        (b"[" * 100_000, "parse_error", "nested"),
        (b"[" * 33 + b"]" * 33, "parse_error", "nested"),
        (b"[" * 32 + b"]" * 32, "invalid_request", "Batches"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"x"}]', "invalid_request", "Batches"),
        (b'"text"', "invalid_request", "object"),
        (b'{"id":1,"method":"node.status"}', "invalid_request", "jsonrpc"),
        (b'{"jsonrpc":"2.0","id":{},"method":"node.status"}', "invalid_request", "id"),
        (b'{"jsonrpc":"2.0","id":true,"method":"node.status"}', "invalid_request", "id"),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', "invalid_request", "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a.b","params":[1]}', "invalid_params", "by name"),
        (b'{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}', "invalid_request", "method"),
        (b'{"jsonrpc":"2.0","id":1}', "invalid_request", "method"),
    ],
)
def test_a_bad_line_is_told_what_is_wrong_with_it(line, symbol, says):
    item = decode(line)
    assert isinstance(item, Malformed)
    assert item.symbol == symbol
    assert says in item.detail


def test_a_line_too_long_costs_only_itself():
    reader = LineReader(64)
    good = jsonrpc.encode_request(1, "a.b", {})
    assert len(good) <= 65
    items = reader.feed(b"x" * 1_000)
    items += reader.feed(b"y" * 1_000 + b"\n" + good)
    assert [type(item) for item in items] == [Malformed, Request]
    assert items[0].symbol == "too_large"
    assert "64" in items[0].detail


def test_the_limit_is_exact():
    exact = b'"' + b"a" * 62 + b'"'
    assert LineReader(64).feed(exact + b"\n")[0].symbol == "invalid_request"
    assert LineReader(64).feed(b" " + exact + b"\n")[0].symbol == "too_large"


def test_empty_lines_and_carriage_returns_mean_nothing():
    good = jsonrpc.encode_request(1, "a.b", {})
    assert LineReader().feed(b"\n\r\n  \n" + good[:-1] + b"\r\n") == [Request(1, "a.b", {})]


def test_a_call_without_id_is_a_notification_and_null_is_an_id():
    assert decode(b'{"jsonrpc":"2.0","method":"a.b"}') == Notification("a.b", {})
    assert decode(b'{"jsonrpc":"2.0","id":null,"method":"a.b"}') == Request(None, "a.b", {})
