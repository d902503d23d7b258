from __future__ import annotations

import pytest
from crowd import record_of, suites
from playbook import Player, Stage

from meshd.core.membership.lookup import MIN_PREFIX_CHARS, find_member
from meshd.errors import Code, ControlError
from meshd.ids import text_of
from meshd.sim.suite import SimSuite
from meshd.wire.messages import Records


def mesh() -> tuple[Player, Player]:
    stage = Stage("anna", "bert")
    anna, bert = stage.mesh(5.0)
    return anna, bert


def refusal(player: Player, text: str) -> ControlError:
    with pytest.raises(ControlError) as caught:
        find_member(player.node.membership, text)
    return caught.value


def test_by_name_by_id_and_by_the_beginning_of_an_id() -> None:
    anna, bert = mesh()
    whole = text_of(bert.id)
    for text in ("bert", whole, whole.upper(), whole[:10], whole[:MIN_PREFIX_CHARS]):
        assert find_member(anna.node.membership, text) == bert.id


@pytest.mark.parametrize("text", ["", " ", "nobody", "BERT", "*", "\x1b[2J", "x" * 10_000])
def test_unknown_names_are_errors_that_name_the_members(text: str) -> None:
    anna, _ = mesh()
    error = refusal(anna, text)
    assert error.code is Code.PEER_UNKNOWN
    assert "anna" in error.detail
    assert "bert" in error.detail
    assert "\x1b" not in error.detail
    assert len(error.detail) < 300


def test_too_short_a_beginning_is_no_beginning() -> None:
    anna, bert = mesh()
    assert refusal(anna, text_of(bert.id)[: MIN_PREFIX_CHARS - 1]).code is Code.PEER_UNKNOWN


def test_what_fits_several_is_ambiguous_and_never_a_broadcast() -> None:
    anna, bert = mesh()
    seen: dict[str, SimSuite] = {}
    for suite in suites(anna, 5000):  # some two share 20 bits
        start = text_of(suite.peer_id)[:MIN_PREFIX_CHARS]
        if start in seen:
            break
        seen[start] = suite
    records = [record_of(anna, one).encoded for one in (suite, seen[start])]
    anna.hear(bert, Records(tuple(records)))
    error = refusal(anna, start)
    assert error.code is Code.PEER_AMBIGUOUS
    assert error.detail.count(start) == 3


def test_two_of_one_name_are_ambiguous() -> None:
    anna, bert = mesh()
    (suite,) = suites(anna, 1)
    record = record_of(anna, suite)
    anna.hear(bert, Records((record.encoded,)))
    other = record_of(anna, suites(anna, 2)[1], name=record.name)
    anna.hear(bert, Records((other.encoded,)))
    error = refusal(anna, record.name)
    assert error.code is Code.PEER_AMBIGUOUS
    assert record.name in error.detail
