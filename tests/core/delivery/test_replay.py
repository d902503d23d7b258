"""Each envelope counts once, also over a restart."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import Player, Stage

from meshd.config import Config
from meshd.core.context import Context
from meshd.core.delivery import replay
from meshd.core.delivery.replay import MAX_SESSIONS_PER_SENDER, WINDOW, ReplayMemory
from meshd.core.state import Stored
from meshd.errors import Rejected
from meshd.ids import CLOCK_SKEW, Instance, Now, PeerId, SessionId
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.envelope import MAX_LIFETIME, Letter
from meshd.wire.messages import LINK_MESSAGES, Forward, decode_message

ANNA, BERT = PeerId(b"a" * 32), PeerId(b"b" * 32)
NOW = 1_800_000_000


def context() -> Context:
    ctx = Context(Config(), SimSuite(KeyTable(), bytes(32), bytes(32)), Random(1), Instance(bytes(8)))
    ctx.now = Now(0.0, NOW)
    return ctx


def letter(sequence: int, session: bytes = b"session!", sender: PeerId = ANNA, expires: int = NOW + 300) -> Letter:
    return Letter(sender, SessionId(session), sequence, NOW, expires, b"body")


def is_new(memory: ReplayMemory, one: Letter, stored: Stored | None = None) -> bool:
    try:
        put = memory.admit(one)
    except Rejected as rejected:
        return rejected.reason != "replayed"
    if stored is not None:
        stored.setdefault(put.table, {})[put.key] = put.value
    return True


sequences = st.lists(
    st.integers(0, 40) | st.integers(0, 2 * WINDOW) | st.integers(2**32 - 300, 2**32 - 1), min_size=1, max_size=80
)


@settings(max_examples=150)
@given(sequences, st.integers(0, 80))
def test_the_window_against_a_naive_model(drawn: list[int], restart: int) -> None:
    """Within the window exactly the repeated are refused; what is older than it is refused unseen."""
    stored: Stored = {}
    memory = ReplayMemory(context(), stored)
    seen: list[int] = []
    for index, sequence in enumerate(drawn):
        if index == restart:
            memory = ReplayMemory(context(), stored)
        too_old = bool(seen) and max(seen) - sequence >= WINDOW
        assert is_new(memory, letter(sequence), stored) is (sequence not in seen and not too_old)
        if sequence not in seen and not too_old:
            seen.append(sequence)


def test_sessions_and_senders_do_not_mix() -> None:
    memory = ReplayMemory(context(), {})
    assert is_new(memory, letter(1))
    assert is_new(memory, letter(1, b"another!"))
    assert is_new(memory, letter(1, sender=BERT))
    assert not is_new(memory, letter(1))


def test_it_is_remembered_as_long_as_it_could_be_believed() -> None:
    ctx = context()
    stored: Stored = {}
    memory = ReplayMemory(ctx, stored)
    assert is_new(memory, letter(1), stored)
    ctx.now = Now(0.0, NOW + MAX_LIFETIME + CLOCK_SKEW)
    memory.sweep()
    assert not is_new(memory, letter(1))
    ctx.now = Now(0.0, NOW + MAX_LIFETIME + 2 * CLOCK_SKEW + 1)
    memory.sweep()
    assert is_new(memory, letter(1))  # by then its times are checked first


def test_one_sender_cannot_fill_it() -> None:
    memory = ReplayMemory(context(), {})
    for number in range(MAX_SESSIONS_PER_SENDER):
        memory.admit(letter(1, number.to_bytes(8, "big")))
    with pytest.raises(Rejected, match="too_many_sessions"):
        memory.admit(letter(1, b"one more"))
    assert is_new(memory, letter(2, bytes(8)))  # known sessions go on
    assert is_new(memory, letter(1, sender=BERT))


def test_there_is_room_for_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_SESSIONS", 3)
    ctx = context()
    memory = ReplayMemory(ctx, {})
    for number in range(3):
        memory.admit(letter(1, sender=PeerId(bytes([number]) * 32)))
    with pytest.raises(Rejected, match="too_many_sessions"):
        memory.admit(letter(1))
    ctx.now = Now(0.0, NOW + 3600)
    memory.sweep()
    memory.admit(letter(1))


# -- played -----------------------------------------------------------------------------------------------------------


def line() -> tuple[Stage, Player, Player, Player]:
    """Anna - Bert - Carl."""
    stage = Stage("anna", "bert", "carl")
    stage.cut.add(frozenset(("anna", "carl")))
    stage.found("bert")
    stage.join("anna", "bert")
    stage.join("carl", "bert")
    stage.advance(200)
    return stage, stage["anna"], stage["bert"], stage["carl"]


def test_a_message_that_is_played_back_is_delivered_once_also_after_a_restart() -> None:
    stage, anna, bert, carl = line()
    captured: list[bytes] = []

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        if sender is bert and receiver is carl and isinstance(decode_message(data, LINK_MESSAGES), Forward):
            captured.append(data)
        return data

    stage.tap = tap
    anna.ask("messages.send", peer="carl", body=b"once")
    stage.tap = None
    assert len(captured) == 1
    forward = decode_message(captured[0], LINK_MESSAGES)
    assert isinstance(forward, Forward)
    before = carl.counters.get("envelopes_replayed", 0)
    for _ in range(3):
        carl.hear(bert, forward)
    assert carl.counters["envelopes_replayed"] == before + 3
    carl.restart()
    stage.advance(10)
    carl.hear(bert, forward)
    assert carl.counters["envelopes_replayed"] == 1
    assert [message["body"] for message in carl.inbox] == [b"once"]
    assert "bert" in carl.neighbors()


def test_an_envelope_is_remembered_before_what_follows_from_it_leaves() -> None:
    _, anna, _, carl = line()
    carl.disk_mode = "slow"
    number = anna.request("messages.send", peer="carl", body=b"once")
    assert any(change.table == "seen" for persist in carl.held for change in persist.changes)
    assert number not in anna.answers
    carl.let_disk_go()
    assert number in anna.answers
