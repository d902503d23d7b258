from __future__ import annotations

import base64
import dataclasses
import hashlib
import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mesh_keys import MESH, NOW, seed, suite
from wire_values import messages_of

from meshd.core.pushing.capabilities import expiries
from meshd.errors import Code, ControlError
from meshd.ids import SessionId
from meshd.wire.endpoint import split_endpoint
from meshd.wire.introduction import (
    PREFIX,
    Introduction,
    decode_token,
    encode_token,
    introduction_id,
    proof_of,
)
from meshd.wire.parts import CapabilityPart, SubscriptionPart
from meshd.wire.paste import MAX_TEXT_CHARS

ANNA = suite("anna")
BASE64URL = string.ascii_letters + string.digits + "-_"
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/" + base64.urlsafe_b64encode(
    bytes((31 * i) % 256 for i in range(137))
).decode().rstrip("=")


def introduction(lifetime: int = 43_200, endpoint: str = ENDPOINT) -> Introduction:
    """As ``meshctl introduce`` mints it, with the keys and capabilities it would have."""
    keys = ANNA.channel_keys(seed("channel"))
    subject = "mailto:postmaster@meshd.invalid"
    capabilities = tuple(
        CapabilityPart(
            exp, ANNA.issue_capability(seed("channel"), "https://updates.push.services.mozilla.com", exp, subject)
        )
        for exp in expiries(NOW, lifetime)
    )
    part = SubscriptionPart(*split_endpoint(endpoint), keys.p256dh, keys.auth, keys.vapid_key, capabilities)
    token_key = ANNA.sealing_key_of(seed("token"))
    return Introduction(MESH, ANNA.peer_id, token_key, seed("secret")[:16], NOW + lifetime, (part,))


SAMPLE = introduction()
TOKEN = encode_token(SAMPLE)


def refusal(text: str) -> Code:
    with pytest.raises(ControlError) as caught:
        decode_token(text)
    return caught.value.code


def the_same_or_damaged(text: str) -> bool:
    try:
        return decode_token(text) == SAMPLE
    except ControlError as error:
        return error.code in (Code.TOKEN_MANGLED, Code.TOKEN_TRUNCATED)


@given(messages_of(Introduction))
def test_a_token_brings_its_introduction(made: Introduction) -> None:
    assert decode_token(encode_token(made)) == made


def test_a_token_is_one_word_that_survives_a_double_click() -> None:
    assert TOKEN.startswith(PREFIX)
    assert set(TOKEN) <= set(BASE64URL)


def test_an_autopush_token_is_short() -> None:
    assert len(ENDPOINT) == 234
    assert len(TOKEN) <= 720


def wrapped(width: int) -> str:
    return "\n".join(TOKEN[i : i + width] for i in range(0, len(TOKEN), width))


@pytest.mark.parametrize(
    "text",
    [
        f"  {TOKEN}\n",
        wrapped(72),
        wrapped(72).replace("\n", "\r\n"),
        wrapped(7).replace("\n", "\n\t "),
        "> " + wrapped(60).replace("\n", "\n> "),
        ">> " + wrapped(60).replace("\n", "\n>> "),
        "| " + wrapped(60).replace("\n", " |\n| ") + " |",
        f'"{TOKEN}"',
        f"'{TOKEN}'",
        f"`{TOKEN}`",
        f"```\n{wrapped(80)}\n```",
        f"**{TOKEN}**",
        f"<{TOKEN}>",
        f"\u201c{TOKEN}\u201d",
        f"\u2018{TOKEN}\u2019",
        f"({TOKEN})",
        f"{TOKEN}.",
        f"{TOKEN}, and quick",
        f"Here is the token: {TOKEN} It is good for twelve hours.",
        f"join with {TOKEN}\n\nBest\nAnna",
        f"meshctl join {TOKEN}",
        "\u200b".join(TOKEN),
        "\u2060" + TOKEN[:100] + "\ufeff" + TOKEN[100:] + "\u200e",
        "\u00a0".join((TOKEN[:50], TOKEN[50:])),
        "\u00ad".join((TOKEN[:50], TOKEN[50:])),
        "\u2028".join((TOKEN[:50], TOKEN[50:])),
    ],
)
def test_a_token_survives_how_it_is_pasted(text: str) -> None:
    assert decode_token(text) == SAMPLE


@given(st.lists(st.tuples(st.integers(0, len(TOKEN)), st.sampled_from(" \n\t\"'>\u200b\u2060")), max_size=30))
def test_noise_anywhere_does_not_matter(noise: list[tuple[int, str]]) -> None:
    text = TOKEN
    for position, character in sorted(noise, reverse=True):
        text = text[:position] + character + text[position:]
    assert decode_token(text) == SAMPLE


def test_every_cut_is_told() -> None:
    for length in range(len(PREFIX)):
        assert refusal(TOKEN[:length]) is Code.TOKEN_FOREIGN
    for length in range(len(PREFIX), len(TOKEN)):
        assert refusal(TOKEN[:length]) is Code.TOKEN_TRUNCATED


def test_a_cut_at_the_front_is_foreign() -> None:
    for start in range(1, len(TOKEN), 13):
        assert refusal(TOKEN[start:]) is Code.TOKEN_FOREIGN


def test_every_changed_character_is_told() -> None:
    """Or changes nothing: the last character may hold bits that mean nothing."""
    for position in range(len(PREFIX), len(TOKEN)):
        for new in ("A", "_", "!"):
            text = TOKEN[:position] + new + TOKEN[position + 1 :]
            assert the_same_or_damaged(text), position


@given(
    st.integers(len(PREFIX), len(TOKEN) - 1), st.sampled_from(BASE64URL), st.sampled_from(["change", "insert", "drop"])
)
def test_no_damage_makes_another_token(position: int, new: str, how: str) -> None:
    kept = TOKEN[position:] if how == "insert" else TOKEN[position + 1 :]
    text = TOKEN[:position] + ("" if how == "drop" else new) + kept
    assert the_same_or_damaged(text)


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, len(TOKEN) - 1))
def test_two_characters_that_changed_places_are_told(one: int, other: int) -> None:
    letters = list(TOKEN)
    letters[one], letters[other] = letters[other], letters[one]
    assume("".join(letters) != TOKEN)
    assert refusal("".join(letters)) in (Code.TOKEN_MANGLED, Code.TOKEN_TRUNCATED, Code.TOKEN_FOREIGN)


def test_lower_case_is_mangled() -> None:
    assert refusal(TOKEN.lower()) is Code.TOKEN_MANGLED


@given(st.text(max_size=300) | st.text(BASE64URL, max_size=300).map(PREFIX.__add__))
@example("")
@example(PREFIX)
@example(PREFIX + "AAAA")
@example(PREFIX + "AQAJAAAAAAAA")
@example(PREFIX + "=" * 40)
def test_any_text_is_a_token_or_refused(text: str) -> None:
    assert refusal(text) in (Code.TOKEN_FOREIGN, Code.TOKEN_TRUNCATED, Code.TOKEN_MANGLED)


@given(st.binary(max_size=300))
def test_any_body_under_a_good_checksum_is_a_token_or_mangled(body: bytes) -> None:
    framed = b"\1" + (3 + len(body) + 6).to_bytes(2, "big") + body
    data = framed + hashlib.sha256(framed).digest()[:6]
    assert refusal(PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")) is Code.TOKEN_MANGLED


def test_a_later_version_says_so() -> None:
    raw = bytearray(base64.urlsafe_b64decode(TOKEN[len(PREFIX) :] + "=="))
    raw[0] = 2
    with pytest.raises(ControlError, match="later version"):
        decode_token(PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="))


def test_a_book_is_foreign() -> None:
    assert refusal("x" * (MAX_TEXT_CHARS + 1)) is Code.TOKEN_FOREIGN


def test_the_secret_is_not_shown() -> None:
    assert SAMPLE.secret.hex() not in repr(SAMPLE)
    assert str(SAMPLE.secret) not in repr(SAMPLE)
    assert SAMPLE.id == introduction_id(SAMPLE.sealing_key)
    assert SAMPLE.id != dataclasses.replace(SAMPLE, sealing_key=bytes(32)).id


def test_a_proof_holds_for_one_joiner_in_one_session() -> None:
    joiner, session = suite("bert").peer_id, SessionId(b"session!")
    proof = proof_of(SAMPLE.secret, joiner, session)
    others = [
        proof_of(bytes(16), joiner, session),
        proof_of(SAMPLE.secret, ANNA.peer_id, session),
        proof_of(SAMPLE.secret, joiner, SessionId(b"another!")),
    ]
    assert len(proof) == 32
    assert proof not in others
