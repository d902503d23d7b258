"""Offers and answers as words to paste: what comes through, and what is said of what does not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import Code, ControlError
from meshd.wire.paste import MAX_TEXT_CHARS, PREFIXES, decode_signal, encode_signal

KINDS = st.sampled_from(sorted(PREFIXES))
ENVELOPES = st.binary(max_size=3_000)


def refusal(kind: str, text: str) -> Code:
    with pytest.raises(ControlError) as caught:
        decode_signal(kind, text)
    return caught.value.code


@given(KINDS, ENVELOPES)
def test_an_envelope_comes_through(kind: str, envelope: bytes) -> None:
    assert decode_signal(kind, encode_signal(kind, envelope)) == envelope


@given(KINDS, ENVELOPES, st.integers(1, 80), st.sampled_from(["\n", "\r\n> ", " ", "\u200b", "”\n“", "\t| "]))
def test_wraps_and_quotes_do_no_harm(kind: str, envelope: bytes, width: int, noise: str) -> None:
    text = encode_signal(kind, envelope)
    wrapped = noise.join(text[i : i + width] for i in range(0, len(text), width))
    assert decode_signal(kind, f"Here you are:{noise}{wrapped}{noise}.") == envelope


@given(KINDS, st.text(max_size=300) | st.builds(lambda kind, tail: PREFIXES[kind] + tail, KINDS, st.text(max_size=200)))
def test_any_text_is_an_envelope_or_refused(kind: str, text: str) -> None:
    with contextlib.suppress(ControlError):
        decode_signal(kind, text)


@given(KINDS, st.binary(min_size=10, max_size=300), st.data())
def test_cut_off_and_damaged_are_told_apart(kind: str, envelope: bytes, data: st.DataObject) -> None:
    text = encode_signal(kind, envelope)
    start = len(PREFIXES[kind])
    assert refusal(kind, text[: data.draw(st.integers(start, len(text) - 2))]) is Code.PASTE_TRUNCATED
    place = data.draw(st.integers(start + 4, len(text) - 2))
    changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
    assert refusal(kind, changed) is Code.PASTE_MANGLED


def test_each_is_told_from_the_other_and_from_a_token() -> None:
    for kind, other, hint in (("offer", "answer", "meshctl accept"), ("answer", "offer", "meshctl answer")):
        with pytest.raises(ControlError, match=hint) as caught:
            decode_signal(kind, encode_signal(other, b"x" * 100))
        assert caught.value.code is Code.PASTE_FOREIGN
    with pytest.raises(ControlError, match="meshctl offer --for"):
        decode_signal("offer", "meshd1_AQFy")
    assert refusal("offer", "x" * (MAX_TEXT_CHARS + 1)) is Code.PASTE_FOREIGN
