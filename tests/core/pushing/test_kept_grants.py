"""Grants that friends keep: sealed, signed, never older over newer, bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playbook import EPOCH, Player, Stage

from meshd.core.pushing.kept_grants import KEPT_LIFETIME, MAX_KEPT_OF_ONE
from meshd.core.state import KeptGrantRow
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import MeshId, PeerId
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.kept_grant import open_grant, seal_grant
from meshd.wire.messages import GrantDeposit, GrantKept
from meshd.wire.parts import Grant

MESH = MeshId(b"m" * 32)
TABLE = KeyTable()
OWNER, HOLDER, OTHER = (SimSuite(TABLE, name * 32, name.upper() * 32) for name in (b"o", b"h", b"x"))


def test_only_its_holder_opens_it_and_only_its_owner_makes_it() -> None:
    sealed = seal_grant(OWNER, MESH, HOLDER.peer_id, HOLDER.sealing_key, Grant(3, ()), 17)
    assert open_grant(HOLDER, MESH, OWNER.peer_id, sealed) == (Grant(3, ()), 17)
    for suite, mesh, owner in (
        (OTHER, MESH, OWNER.peer_id),
        (HOLDER, MeshId(b"n" * 32), OWNER.peer_id),
        (HOLDER, MESH, OTHER.peer_id),
    ):
        with pytest.raises(Rejected):
            open_grant(suite, mesh, owner, sealed)
    for_another = seal_grant(OWNER, MESH, OTHER.peer_id, HOLDER.sealing_key, Grant(3, ()), 17)
    with pytest.raises(Rejected):
        open_grant(HOLDER, MESH, OWNER.peer_id, for_another)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_grant_or_one_of_two_errors(data: bytes, really_sealed: bool) -> None:
    sealed = HOLDER.seal(HOLDER.sealing_key, b"meshd kept grant 1\0" + MESH, data) if really_sealed else data
    with pytest.raises((MalformedMessage, Rejected)):
        open_grant(HOLDER, MESH, OWNER.peer_id, sealed)


def three() -> tuple[Stage, Player, Player, Player]:
    """anna, bert and carl in one mesh; carl is away, and was a neighbor of both."""
    stage = Stage("anna", "bert", "carl")
    anna, bert, carl = stage.mesh(60.0)
    carl.crash()
    stage.advance(200)
    return stage, anna, bert, carl


def granted(owner: Player, holder: Player, generation: int) -> Grant:
    """What the owner would give now."""
    owner.node._ctx.now = owner.now
    grant = owner.node.holders.grant(holder.id, generation)
    assert grant is not None
    return grant


def deposit(owner: Player, holder: Player, generation: int) -> None:
    owner.node._ctx.now = owner.now
    owner.node.kept_grants.deposit(holder.id, granted(owner, holder, generation))
    commands = owner.node._ctx.take_commands()
    owner.log.extend(commands)
    for command in commands:
        owner.stage.do(owner, command)
    owner.stage.run()


def kept_by(friend: Player) -> dict[bytes, KeptGrantRow]:
    return dict(friend.node.kept_grants._rows)


def test_a_friend_keeps_it_and_hands_it_over_when_the_holder_appears() -> None:
    stage, anna, bert, carl = three()
    deposit(anna, carl, 5)
    assert list(kept_by(bert)) == [anna.id + carl.id]
    anna.crash()
    bert.restart()
    carl.start()
    stage.advance(60)
    assert bert.sent(GrantKept)[-1].generation == 5
    assert carl.node.grants._rows[anna.id].generation == 5
    assert carl.node.grants.can_push(anna.id)
    assert kept_by(bert) == {}
    assert carl.disk["grants"][anna.id]


def test_an_older_copy_changes_nothing_neither_at_the_friend_nor_at_the_holder() -> None:
    stage, anna, bert, carl = three()
    deposit(anna, carl, 5)
    (first,) = anna.sent(GrantDeposit)
    stage.advance(5)
    deposit(anna, carl, 6)
    newer = anna.sent(GrantDeposit)[-1]
    bert.hear(anna, first)
    assert kept_by(bert)[anna.id + carl.id].generation == 6
    anna.crash()  # or it would give carl newer ones itself
    carl.start()
    stage.advance(60)
    before = carl.node.grants._rows[anna.id]
    assert before.generation == 6
    for message in (first, newer):
        fields = (message.owner, message.holder, message.generation, message.issued, message.sealed)
        carl.hear(bert, GrantKept(*fields))
        assert carl.node.grants._rows[anna.id] == before


@pytest.mark.parametrize("spoil", ["owner", "holder", "to_us", "future", "past", "stranger"])
def test_what_is_not_kept(spoil: str) -> None:
    _, anna, bert, carl = three()
    deposit(anna, carl, 5)
    (good,) = anna.sent(GrantDeposit)
    anna.log.clear()
    bert.node.kept_grants.forget(carl.id)
    now = int(anna.stage.unix)
    changed = {
        "owner": replace(good, owner=carl.id),
        "holder": replace(good, holder=anna.id),
        "to_us": replace(good, holder=bert.id),
        "future": replace(good, issued=now + 4000),
        "past": replace(good, issued=now - int(KEPT_LIFETIME) - 10),
        "stranger": replace(good, holder=bytes(32)),
    }
    bert.hear(anna, changed[spoil])
    assert kept_by(bert) == {}
    assert bert.counters["rejected_deposit_refused"] == 1
    assert "anna" in bert.neighbors()


def test_a_friend_that_changes_it_is_found_out() -> None:
    stage, anna, bert, carl = three()
    deposit(anna, carl, 5)
    (good,) = anna.sent(GrantDeposit)
    carl.start()
    stage.advance(60)
    carl.node.grants.forget(anna.id)
    sealed = bytearray(good.sealed)
    sealed[-1] ^= 1
    carl.hear(bert, GrantKept(anna.id, carl.id, 5, good.issued, bytes(sealed)))
    carl.hear(bert, GrantKept(bert.id, carl.id, 5, good.issued, good.sealed))  # as another's
    assert anna.id not in carl.node.grants


def test_copies_of_one_owner_are_bounded_and_end() -> None:
    stage, anna, bert, _ = three()
    kept = bert.node.kept_grants
    bert.node._ctx.now = bert.now
    for number in range(MAX_KEPT_OF_ONE):
        kept._rows[anna.id + number.to_bytes(32, "big")] = KeptGrantRow(1, int(EPOCH) + number, b"sealed")
    kept._make_room(anna.id)
    assert len(kept._rows) == MAX_KEPT_OF_ONE - 1
    assert anna.id + bytes(32) not in kept._rows
    stage.skip(KEPT_LIFETIME + 100)
    stage.advance(100)
    assert kept_by(bert) == {}


def test_who_leaves_takes_its_copies_along() -> None:
    _, anna, bert, carl = three()
    deposit(anna, carl, 5)
    bert.node.kept_grants.forget(PeerId(anna.id))
    assert kept_by(bert) == {}
    assert bert.did  # and the disk follows
