"""Whatever comes from outside, ``Node.handle`` gives commands and raises nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import Player, Stage
from wire_values import messages_of

from meshd.core import events as ev
from meshd.ids import ChannelId, LinkId, PushId, SessionId
from meshd.wire.envelope import seal
from meshd.wire.messages import ENVELOPE_MESSAGES, LINK_MESSAGES, Forward, encode_message
from meshd.wire.session_description import encode as encode_description

on_link = st.one_of([messages_of(cls) for cls in LINK_MESSAGES.values()])
in_envelope = st.one_of([messages_of(cls) for cls in ENVELOPE_MESSAGES.values()])


@cache
def table() -> tuple[Stage, list[Player]]:
    stage = Stage("anna", "bert", "carl")
    return stage, stage.mesh()


def linked() -> tuple[Stage, Player, Player, Player]:
    """Three members that are linked, for the next example too: what one leaves behind is the next one's start."""
    stage, players = table()
    anna, bert, carl = players
    for _ in range(20):
        if anna.neighbors() == {"bert", "carl"}:
            return stage, anna, bert, carl
        stage.advance(30)
    table.cache_clear()
    return linked()


@settings(max_examples=250)
@given(on_link)
def test_any_message_of_a_neighbor(message: Any) -> None:
    stage, anna, bert, _ = linked()
    anna.hear(bert, message)
    stage.advance(0.5)


@settings(max_examples=200)
@given(in_envelope | st.binary(max_size=200), st.binary(min_size=8, max_size=8), st.booleans())
def test_any_letter_of_a_member(message: Any, session: bytes, known: bool) -> None:
    stage, anna, bert, carl = linked()
    sessions = anna.node.signaling.sessions()
    if known and sessions:
        session = sessions[0].id
    if known and hasattr(message, "description"):  # get past the first check
        fields = {name: getattr(message, name) for name in message.__match_args__}
        message = type(message)(**fields | {"description": encode_description(stage.description(carl))})
    body = message if isinstance(message, bytes) else encode_message(message)
    envelope = seal(
        carl.suite,
        anna.node.membership.mesh,
        anna.id,
        anna.suite.sealing_key,
        session=SessionId(session),
        sequence=next(stage.numbers),
        body=body or b"\0",
        now=carl.now,
    )
    anna.hear(bert, Forward(3, envelope))
    stage.advance(0.5)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_by_link_and_by_push(data: bytes, encrypted: bool) -> None:
    stage, anna, bert, _ = linked()
    anna.hear(bert, data)
    for owner, service, channel in list(stage.endpoints.values()):
        if owner is anna:
            keys = anna.suite.channel_keys(anna.node.channels._rows[channel].seed)
            body = bert.suite.encrypt_push(keys.p256dh, keys.auth, data) if encrypted else data
            anna.give(ev.PushReceived(service, channel, "version", body))
    stage.advance(0.5)


numbers = st.integers(0, 2**32)
others = st.one_of(
    st.builds(ev.LinkClosed, numbers.map(LinkId), st.sampled_from(["ice_failed", "send_overflow", ""])),
    st.builds(ev.LinkConnected, numbers.map(LinkId), st.binary(max_size=32), st.binary(max_size=32)),
    st.builds(ev.SendBufferHigh, numbers.map(LinkId)),
    st.builds(ev.SendBufferLow, numbers.map(LinkId)),
    st.builds(ev.UserAgentConnected, st.text(max_size=9), st.text(st.characters(codec="utf-8"), max_size=9)),
    st.builds(ev.UserAgentDisconnected, st.sampled_from(["mozilla", "x"]), st.text(max_size=9)),
    st.builds(ev.ChannelRegistered, st.binary(max_size=16).map(ChannelId), st.text(max_size=40)),
    st.builds(ev.ChannelRefused, st.binary(max_size=16).map(ChannelId), st.integers(0, 999)),
    st.builds(
        ev.PushAnswered, numbers.map(PushId), st.integers(0, 999), st.text(max_size=9), st.none() | st.floats(0, 1e9)
    ),
    st.builds(
        ev.PushReceived, st.text(max_size=9), st.binary(max_size=16).map(ChannelId), st.text(max_size=9), st.binary()
    ),
)


@settings(max_examples=150)
@given(others)
def test_any_other_event(event: ev.Event) -> None:
    _, anna, _, _ = linked()
    anna.give(event)


@settings(max_examples=60)
@given(st.text(max_size=300), st.text(max_size=40))
def test_any_pasted_text(token: str, name: str) -> None:
    stage, _ = table()
    if "dora" not in stage.players:
        stage.add("dora")
    stage["dora"].refusal("mesh.join", token=token, name=name)
