"""Who may revoke whom, what is refused, and how much is kept."""

from __future__ import annotations

import pytest
from playbook import Refused
from theft import DAY, KEY, admitted_by, four, introduced, members, mesh_of, record_of, revocation_by, state, stranger

from meshd.core.membership import administration, revocations
from meshd.core.membership.revocations import MAX_OF_ONE_ADMIN, MAX_REVOCATIONS
from meshd.crypto.revocation import Scope, revoke
from meshd.errors import Code
from meshd.ids import MeshId, PeerId, text_of
from meshd.wire.messages import Records, Revocations


def test_who_may_not() -> None:
    _, anna, bert, _, _ = four()
    assert bert.refusal("members.revoke", peer="carl") is Code.REFUSED
    assert anna.refusal("members.revoke", peer="anna") is Code.REFUSED
    assert anna.refusal("members.revoke", peer="nobody") is Code.PEER_UNKNOWN
    assert anna.refusal("members.revoke", peer="bert", since=5e9) is Code.INVALID_PARAMS
    assert bert.refusal("members.revoke", peer="carl", mesh_key=bytes(32)) is Code.MESH_KEY_WRONG


def test_a_member_with_the_mesh_key_may() -> None:
    _stage, anna, bert, carl, _ = four()
    bert.ask("members.revoke", peer="carl", mesh_key=KEY)
    assert state(carl) == "revoked"
    assert "carl" not in members(anna)
    assert not any(KEY in value for table in bert.disk.values() for value in table.values())


def test_a_key_that_nobody_knows_here_is_revoked_by_its_whole_id() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("mesh.leave")
    stage.advance(1)
    assert anna.refusal("members.revoke", peer=text_of(bert.id)[:20]) is Code.PEER_UNKNOWN
    assert anna.ask("members.revoke", peer=text_of(bert.id))["done"]
    assert carl.node.revocations.bars(bert.id)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("of a member", "may_not_revoke"),
        ("of another mesh", "may_not_revoke"),
        ("old", "revocation_expired"),
        ("of the future", "revocation_in_future"),
        ("forged", "bad_signature"),
    ],
)
def test_what_does_not_hold_changes_nothing(what: str, reason: str) -> None:
    stage, anna, bert, carl, dora = four()
    now = int(stage.unix)
    data = {
        "of a member": lambda: revocation_by(stage, bert, carl.id, authority=bert.node.membership.chain[-1]),
        "of another mesh": lambda: revoke(
            lambda message: anna.suite.sign_with(bytes(32), message),
            MeshId(anna.suite.identity_of(bytes(32))),
            anna.suite.identity_of(bytes(32)),
            subject=carl.id,
            scope=Scope.MEMBER,
            name="carl",
            issued=now,
            expires=now + DAY,
            void_from=now,
        ),
        "old": lambda: revocation_by(stage, anna, carl.id, issued=now - 2 * DAY, expires=now - DAY),
        "of the future": lambda: revocation_by(stage, anna, carl.id, issued=now + 5000),
        "forged": lambda: revoke(
            bert.suite.sign,
            mesh_of(stage),
            anna.id,
            subject=carl.id,
            scope=Scope.MEMBER,
            name="carl",
            issued=now,
            expires=now + DAY,
            void_from=now,
            authority=anna.node.membership.chain[0],
        ),
    }[what]().encoded
    dora.hear(bert, Revocations((data, b"\xc1")))
    assert dora.notices("revocation_rejected") == [{"peer": bert.id, "reason": reason}]
    assert dora.counters["revocations_malformed"] == 1
    assert dora.neighbors() == {"anna", "bert", "carl"}
    assert not dora.disk["revocations"]


def test_a_revocation_played_again_changes_nothing() -> None:
    _stage, anna, _bert, carl, dora = four()
    anna.ask("members.revoke", peer="bert")
    (data,) = carl.disk["revocations"].values()
    writes, sent = carl.writes, len(carl.sent(Revocations))
    carl.hear(dora, Revocations((data,)))
    assert (carl.writes, len(carl.sent(Revocations))) == (writes, sent)
    assert len(carl.node.view().revocations) == 1


def test_admins_do_not_revoke_each_other() -> None:
    stage, anna, bert, carl, _ = four()
    anna.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(1)
    assert anna.refusal("members.revoke", peer="bert") is Code.REFUSED
    assert bert.refusal("members.revoke", peer="anna") is Code.REFUSED
    carl.hear(anna, Revocations((revocation_by(stage, anna, bert.id).encoded,)))
    assert state(bert) == "member"
    assert "bert" in carl.neighbors()


def test_a_stolen_admin_cannot_fill_all_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_OF_ONE_ADMIN * 2 <= MAX_REVOCATIONS
    monkeypatch.setattr(revocations, "MAX_OF_ONE_ADMIN", 12)
    stage, anna, bert, carl, _ = four()
    anna.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(1)
    made = [revocation_by(stage, bert, PeerId(number.to_bytes(32, "big"))).encoded for number in range(17)]
    for data in made:
        carl.hear(bert, Revocations((data,)))
    stage.advance(2)
    assert len(carl.node.revocations) == 12
    assert carl.notices("revocation_rejected")[-1]["reason"] == "too_many_revocations"
    assert bert.refusal("members.revoke", peer="carl") is Code.BUSY
    anna.ask("members.revoke", peer="bert", mesh_key=KEY, all=True)  # and all of it is forgotten
    assert len(carl.node.revocations) == 1
    assert len(carl.disk["revocations"]) == 1
    assert state(bert) == "revoked"


def test_more_than_can_be_kept_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration, "MAX_KEPT", 6)
    stage, anna, bert, _ = introduced()
    chain = bert.node.membership.chain
    for number in range(6):
        suite = stranger(stage, f"member {number}")
        anna.hear(bert, Records((record_of(stage, suite, admitted_by(bert, suite, f"m{number}", stage.unix, chain)),)))
    answer = anna.answers[anna.request("members.revoke", peer="bert")]
    assert isinstance(answer, Refused)
    assert answer.code is Code.TOO_LARGE
    assert "6 can be" in answer.detail
    assert anna.ask("members.revoke", peer="bert", all=True)["done"]


def test_revocations_end_when_nothing_can_be_concerned() -> None:
    stage, anna, _bert, carl, _ = four()
    anna.ask("members.revoke", peer="bert")
    until = carl.node.view().revocations[0]["until"]
    assert until > stage.unix + 365 * DAY
    for player in (anna, carl):
        player.node.revocations._ctx.now = type(player.now)(stage.mono, until + 1)
        player.node.revocations.sweep()
        assert not len(player.node.revocations)


def test_two_revocations_at_the_same_time_in_two_halves() -> None:
    stage, anna, bert, carl, dora = four()
    anna.ask("admins.appoint", peer="carl", mesh_key=KEY)
    stage.add("eric")
    stage.join("eric", "anna")
    stage.advance(10)
    for one in ("anna", "bert"):
        for other in ("carl", "dora", "eric"):
            stage.separate(one, other)
    anna.ask("members.revoke", peer="dora")
    carl.ask("members.revoke", peer="bert")
    assert state(bert) == state(dora) == "revoked" or (state(bert), state(dora)) == ("member", "member")
    stage.cut.clear()
    stage.advance(400)
    assert state(bert) == state(dora) == "revoked"
    for player, others in ((anna, {"carl", "eric"}), (carl, {"anna", "eric"}), (stage["eric"], {"anna", "carl"})):
        assert player.neighbors() == members(player) == others
        assert len(player.node.view().revocations) == 2
