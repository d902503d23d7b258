"""The table itself, what is checked against it, and the document made from it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl.verbs import capabilities
from meshd.control import methods
from meshd.control.document import document
from meshd.control.encodings import decode_bytes, decode_time, encode_bytes, encode_time
from meshd.control.methods import METHODS, Field, Method
from meshd.control.parameters import check_params, find_method, problem_in, problem_with
from meshd.control.shapes import AUDIT_KINDS, SHAPES
from meshd.core.pushing import audit
from meshd.errors import Code, ControlError

ROOT = Path(__file__).parents[2]


def refusal(name, **params):
    with pytest.raises(ControlError) as caught:
        check_params(METHODS[name], params)
    return caught.value


def test_the_document_is_up_to_date():
    text = (ROOT / "docs" / "control-api.md").read_text()
    assert text == document(), "run: python -m meshd.control.document > docs/control-api.md"


def test_every_kind_of_audit_entry_can_be_told_and_asked_for():
    assert tuple(AUDIT_KINDS.split("|")) == audit.KINDS == capabilities.KINDS


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_example_would_be_accepted(method):
    checked = check_params(method, method.example)
    assert set(checked) == {param.name for param in method.params}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_kind_is_known(method):
    fields = [*method.result, *(field for notice in method.notices for field in notice.fields)]
    fields += [field for shape in SHAPES.values() for field in shape]
    for kind in [field.kind for field in fields] + [param.kind for param in method.params]:
        problem_with(kind, None)
        problem_with(kind.strip("[]{}?"), "text")


def test_a_name_that_stands_twice_fails_at_import():
    once = Method("a.b", methods.READ, "", (), (), {})
    with pytest.raises(ValueError, match=r"a\.b"):
        methods._table(once, once)
    with pytest.raises(ValueError, match="twice"):
        methods._table(once._replace(result=(Field("x", "any", ""), Field("x", "any", ""))))
    with pytest.raises(ValueError, match="permission"):
        methods._table(once._replace(permission="all"))


def test_a_misspelt_method_gets_a_suggestion():
    with pytest.raises(ControlError, match=r"Did you mean peers\.list\?") as caught:
        find_method("peer.list")
    assert caught.value.code is Code.METHOD_NOT_FOUND
    with pytest.raises(ControlError):
        find_method("x" * 1_000_000)


def test_a_misspelt_parameter_gets_a_suggestion():
    error = refusal("messages.send", pear="x", body="")
    assert error.code is Code.INVALID_PARAMS
    assert "Did you mean peer?" in error.detail
    assert "takes none" in refusal("node.status", anything=1).detail


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("messages.send", {"body": ""}, "needs peer"),
        ("messages.send", {"peer": "", "body": ""}, "at least 1 character"),
        ("messages.send", {"peer": "a", "body": "===="}, "base64url"),
        ("messages.send", {"peer": "a", "body": "", "wait": 1}, "true or false"),
        ("messages.send", {"peer": "a", "body": "", "timeout": True}, "number of seconds"),
        ("messages.send", {"peer": "a", "body": "", "timeout": -1}, "at least"),
        ("messages.send", {"peer": "a", "body": "", "timeout": 10**400}, "number of seconds"),
        ("messages.list", {"limit": 1.5}, "whole number"),
        ("messages.list", {"limit": 10**6}, "at most 1000"),
        ("messages.read", {"message_ids": ["aa", 5]}, "entry 1: text, not a number"),
        ("messages.read", {"message_ids": ["a!"]}, "base32"),
        ("mesh.found", {"mesh_name": "m", "mesh_key": "AAAA"}, "at least 32 bytes, not 3"),
    ],
)
def test_a_bad_parameter_is_named(name, params, says):
    error = refusal(name, **params)
    assert error.code is Code.INVALID_PARAMS
    assert says in error.detail


def test_a_body_too_large_is_an_error_of_its_own():
    fits = check_params(METHODS["messages.send"], {"peer": "a", "body": encode_bytes(bytes(methods.MAX_BODY_SIZE))})
    assert fits["application"] == "message"
    error = refusal("messages.send", peer="a", body=encode_bytes(bytes(methods.MAX_BODY_SIZE + 1)))
    assert error.code is Code.TOO_LARGE


def test_null_counts_as_left_out():
    checked = check_params(METHODS["peers.ping"], {"peer": "a", "timeout": None})
    assert checked == {"peer": "a", "timeout": methods.DEFAULT_PING_TIMEOUT}


@given(st.sampled_from(sorted(METHODS)), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)))
def test_any_params_pass_or_are_refused(name, params):
    try:
        check_params(METHODS[name], params)
    except ControlError as error:
        code = error.code
    else:
        return
    assert code in (Code.INVALID_PARAMS, Code.TOO_LARGE)


def test_results_can_be_held_against_the_table():
    fields = METHODS["peers.ping"].result
    good = {"peer_id": "aa", "name": "x", "rtt": 0.1, "via": []}
    assert problem_in(fields, good) == ""
    assert problem_in(fields, {**good, "rtt": "fast"}).startswith("rtt: ")
    assert problem_in(fields, {**good, "more": 1}) == "more is no field of it"
    assert problem_in(fields, {}) == "name is missing"
    assert problem_with("{{any}}", {"a": {"b": []}}) == ""
    assert problem_with("{{any}}", {"a": 1}) == "a: an object, not a number"


@given(st.binary(max_size=100))
def test_bytes_come_back(raw):
    assert decode_bytes(encode_bytes(raw)) == raw


@given(st.text(max_size=20) | st.text("AZaz09-_=+/", max_size=20))
def test_no_two_texts_give_the_same_bytes(text):
    try:
        raw = decode_bytes(text)
    except ValueError:
        return
    assert encode_bytes(raw) == text


@given(st.integers(-62_000_000_000_000, 253_000_000_000_000))
def test_times_come_back(milliseconds):
    assert round(decode_time(encode_time(milliseconds / 1000)) * 1000) == milliseconds


@given(st.text(max_size=26))
def test_any_text_is_a_time_or_is_not(text):
    try:
        unix = decode_time(text)
    except ValueError:
        return
    assert encode_time(unix) == text


def test_a_time_reads_as_the_standard_says():
    assert encode_time(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"
    for wrong in (float("inf"), float("nan"), 1e18, -1e18):
        with pytest.raises(ValueError):
            encode_time(wrong)
