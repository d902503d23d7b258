"""A stolen laptop, from the revocation to the last who hears of it; and a thief who knows how all this works."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from playbook import Player, Refused, Stage

from meshd.core import administration, revocations
from meshd.core import commands as cm
from meshd.core.revocations import MAX_OF_ONE_ADMIN, MAX_REVOCATIONS
from meshd.core.state import OF_A_MESH
from meshd.crypto.admission import Certificate, Chain, Rights, digest, issue
from meshd.crypto.revocation import Revocation, Scope, revoke
from meshd.errors import Code
from meshd.ids import MeshId, PeerId, SessionId, text_of
from meshd.sim.suite import SimSuite
from meshd.wire.messages import (
    LINK_MESSAGES,
    AdmissionIssued,
    AdmissionWanted,
    Forward,
    Goodbye,
    Records,
    Revocations,
    RevocationsKnown,
    decode_message,
)
from meshd.wire.record import RELAYS, make_record

KEY = hashlib.sha256(b"mesh").digest()  # that the stage founds with
DAY = 86_400


def four() -> tuple[Stage, Player, Player, Player, Player]:
    """anna is the admin and has admitted all."""
    stage = Stage("anna", "bert", "carl", "dora")
    anna, bert, carl, dora = stage.mesh()
    return stage, anna, bert, carl, dora


def without_renewals(stage: Stage) -> None:
    """Nobody gets a better admission: whoever was introduced by a member hangs on that."""

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        return None if isinstance(decode_message(data, LINK_MESSAGES), AdmissionWanted) else data

    stage.tap = tap


def deaf(stage: Stage, player: Player) -> None:
    """A thief's daemon need not listen."""

    def tap(sender: Player, receiver: Player, data: bytes) -> bytes | None:
        said = decode_message(data, LINK_MESSAGES)
        return None if receiver is player and isinstance(said, Revocations | RevocationsKnown) else data

    stage.tap = tap


def introduced() -> tuple[Stage, Player, Player, Player]:
    """anna has admitted bert, and bert carl."""
    stage = Stage("anna", "bert", "carl")
    without_renewals(stage)
    stage.found("anna")
    stage.join("bert", "anna")
    stage.join("carl", "bert")
    stage.advance(5)
    assert len(stage["carl"].node.membership.chain) == 3
    return stage, stage["anna"], stage["bert"], stage["carl"]


def members(player: Player) -> set[str]:
    return {peer["name"] for peer in player.node.view().peers}


def state(player: Player) -> str:
    return str(player.node.view().status["state"])


def admitted_by(issuer: Player, suite: SimSuite, name: str, issued: float, above: Chain | None = None) -> Chain:
    """What the key of ``issuer`` can sign at any time, dated as one likes."""
    certificate = issue(
        issuer.suite.sign,
        mesh_of(issuer.stage),
        issuer.id,
        subject=suite.peer_id,
        name=name,
        rights=Rights.INTRODUCE,
        issued=int(issued),
        expires=int(issued) + 30 * DAY,
    )
    return (*(above or issuer.node.membership.chain), certificate)


def mesh_of(stage: Stage) -> MeshId:
    return MeshId(stage["anna"].suite.identity_of(KEY))


def record_of(stage: Stage, suite: SimSuite, chain: Chain) -> bytes:
    made = make_record(
        suite,
        mesh_of(stage),
        number=int(stage.unix) + 1000,
        chain=chain,
        neighbors=(),
        generation=0,
        features=0,
        instance=stage["anna"].node._ctx.instance,
        issued=int(stage.unix),
        flags=RELAYS,
    )
    return made.encoded


def stranger(stage: Stage, name: str) -> SimSuite:
    seed = hashlib.sha256(name.encode()).digest()
    return SimSuite(stage.keys, seed, hashlib.sha256(seed).digest())


def revocation_by(stage: Stage, issuer: Player, subject: PeerId, **changed: Any) -> Revocation:
    now = int(stage.unix)
    fields: dict[str, Any] = {
        "scope": Scope.MEMBER,
        "name": "x",
        "issued": now,
        "expires": now + DAY,
        "void_from": now,
        "authority": issuer.node.membership.chain[0],
    }
    fields.update(changed)
    return revoke(issuer.suite.sign, mesh_of(stage), issuer.id, subject=subject, **fields)


# -- what happens -----------------------------------------------------------------------------------------------------


def test_everybody_drops_it_at_once_and_it_knows_why() -> None:
    stage, anna, bert, carl, dora = four()
    channels = len(stage.endpoints)
    answer = anna.ask("members.revoke", peer="bert")
    assert (answer["name"], answer["done"], answer["kept"], answer["fallen"]) == ("bert", True, [], [])
    for player in (anna, carl, dora):
        assert "bert" not in members(player) | player.neighbors()
        assert not player.node.membership.is_member(bert.id)
        assert not player.node.grants.can_push(bert.id)
        assert bert.id not in player.node.holders
        assert [notice["reason"] for notice in player.notices("link_down")] == ["revoked"]
    assert len(stage.endpoints) < channels - 3  # each has taken back what bert could push with, and bert all of its own
    assert state(bert) == "revoked"
    assert bert.neighbors() == set()
    assert "revoked in the mesh home" in bert.node.view().status["warnings"][0]
    assert bert.notices("expelled") == [{"mesh": mesh_of(stage), "reason": "revoked"}]
    assert bert.counters["links_lost_revoked"] == 3
    stage.advance(600)
    assert {p.name: p.neighbors() for p in (anna, carl, dora)} == {
        "anna": {"carl", "dora"},
        "carl": {"anna", "dora"},
        "dora": {"anna", "carl"},
    }


def test_the_other_end_of_a_link_hears_why_it_ends() -> None:
    stage, anna, bert, carl, _ = four()
    before = len(carl.sent(Goodbye))
    deaf(stage, bert)
    anna.ask("members.revoke", peer="bert")
    assert [goodbye.reason for goodbye in carl.sent(Goodbye)[before:]] == ["revoked"]


def test_it_holds_over_restarts_on_either_side() -> None:
    stage, anna, bert, carl, dora = four()
    anna.ask("members.revoke", peer="bert")
    for player in (carl, anna, dora, bert):
        player.restart()
        stage.advance(20)
        assert state(bert) == "revoked"
        assert "bert" not in members(player)
    assert carl.neighbors() == {"anna", "dora"}
    assert not any(bert.disk[table] for table in OF_A_MESH if table not in ("mesh", "records"))
    assert set(bert.disk["records"]) == {bert.id}  # its number is never used again


def test_the_disk_had_the_revocation_and_not_yet_what_follows() -> None:
    """Power is cut in between: what is loaded is judged before any link is there."""
    _stage, anna, bert, carl, _ = four()
    records, mesh = dict(carl.disk["records"]), dict(bert.disk["mesh"])
    anna.ask("members.revoke", peer="bert")
    revocations = dict(carl.disk["revocations"])
    carl.disk["records"] = records
    carl.restart()
    assert "bert" not in members(carl)
    bert.disk["mesh"], bert.disk["revocations"] = mesh, revocations
    bert.restart()
    assert state(bert) == "revoked"


def test_a_member_that_was_away_learns_it_on_its_first_link() -> None:
    stage, anna, _bert, carl, dora = four()
    carl.crash()
    anna.ask("members.revoke", peer="bert")
    anna.crash()
    carl.start()
    assert "bert" in members(carl)
    stage.advance(120)
    assert carl.neighbors() == {"dora"}
    assert "bert" not in members(carl)
    assert carl.node.view().revocations == dora.node.view().revocations != []


def test_the_revoked_that_was_away_learns_it_from_one_who_was_away_too() -> None:
    stage, anna, bert, carl, dora = four()
    bert.crash()
    carl.crash()
    anna.ask("members.revoke", peer="bert")
    anna.crash()
    dora.crash()
    carl.start()
    bert.start()
    stage.advance(120)
    assert carl.neighbors() == {"bert"}  # nobody has told either
    dora.start()
    stage.advance(120)
    assert carl.neighbors() == {"dora"}
    assert state(bert) == "revoked"


def test_a_revoked_member_that_does_not_hear_gets_no_link_and_no_word() -> None:
    """A thief's daemon need not listen: nobody answers it, and what it could push with is worthless."""
    stage, anna, bert, carl, _dora = four()
    deaf(stage, bert)
    anna.ask("members.revoke", peer="bert")
    stage.advance(1200)
    assert bert.neighbors() == set()
    assert state(bert) == "member"
    assert not carl.inbox
    number = bert.request("messages.send", peer="carl", body=b"let me in", timeout=60.0)
    stage.advance(120)
    assert isinstance(bert.answers[number], Refused)
    assert not carl.inbox


def test_its_letters_are_refused_at_once() -> None:
    _stage, anna, bert, carl, dora = four()
    letter = bert.node.post.envelope(carl.id, AdmissionWanted(1, ""), SessionId(bytes(8)))
    assert letter is not None
    anna.ask("members.revoke", peer="bert")
    carl.hear(dora, Forward(3, letter))
    assert carl.counters["envelopes_revoked"] == 1


def test_a_link_in_the_making_is_given_up() -> None:
    stage, anna, bert, carl, _ = four()
    stage.separate("bert", "carl")
    stage.cut.clear()
    stage.advance(0.1)
    anna.ask("members.revoke", peer="bert")
    stage.advance(60)
    assert not any(link.peer == bert.id for link in carl.node.neighbors.links())
    assert not carl.node.signaling.sessions()


def test_its_name_is_free() -> None:
    stage, anna, _bert, _, _ = four()
    anna.ask("members.revoke", peer="bert")
    stage.add("eric")
    eric = stage["eric"]
    number = eric.request("mesh.join", token=stage.mint("anna"), name="bert")
    stage.advance(2)
    answer = eric.answers[number]
    assert isinstance(answer, dict)
    assert answer["name"] == "bert"


def test_what_waits_for_it_is_never_sent() -> None:
    stage, anna, bert, carl, _ = four()
    bert.crash()
    stage.advance(30)
    number = carl.request("messages.send", peer="bert", body=b"the safe is behind the picture", timeout=500.0)
    anna.ask("members.revoke", peer="bert")
    answer = carl.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.PEER_UNKNOWN
    assert not carl.disk["outbox"]


def test_its_key_joins_again_by_nobodys_token() -> None:
    stage, anna, bert, _carl, _ = four()
    anna.ask("members.revoke", peer="bert")
    number = bert.request("mesh.join", token=stage.mint("carl"), name="bert")
    stage.advance(2)
    answer = bert.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.KEY_REVOKED
    assert state(bert) == "revoked"


def test_a_revoked_node_may_found_or_join_another_mesh() -> None:
    _stage, anna, bert, _, _ = four()
    anna.ask("members.revoke", peer="bert")
    bert.ask("mesh.found", mesh_name="den", name="bert", mesh_key=bytes(32))
    assert state(bert) == "member"
    bert.restart()
    assert state(bert) == "member"
    assert not bert.node.view().revocations
    bert.ask("mesh.leave")
    assert state(bert) == "no_mesh"


# -- who was admitted through it --------------------------------------------------------------------------------------


def test_whom_it_admitted_stays_and_gets_an_admission_of_the_admins_own() -> None:
    stage, anna, _bert, carl = introduced()
    answer = anna.ask("members.revoke", peer="bert")
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert anna.neighbors() == {"carl"}
    assert state(carl) == "member"
    stage.tap = None
    stage.advance(10)
    assert [certificate.issuer for certificate in carl.node.membership.chain] == [mesh_of(stage), anna.id]


def test_the_kept_who_was_away_is_renewed_too() -> None:
    stage, anna, _bert, carl = introduced()
    carl.crash()
    anna.ask("members.revoke", peer="bert")
    stage.tap = None
    carl.start()
    stage.advance(90)
    assert carl.neighbors() == {"anna"}
    assert len(carl.node.membership.chain) == 2


def test_all_of_it() -> None:
    stage, anna, bert, carl = introduced()
    answer = anna.ask("members.revoke", peer="bert", all=True)
    assert [entry["name"] for entry in answer["fallen"]] == ["carl"]
    assert anna.neighbors() == set()
    assert (state(bert), state(carl)) == ("revoked", "revoked")
    assert "a token of another member" in carl.node.view().status["warnings"][0]
    stage.tap = None
    stage.join("carl", "anna")  # its own key is as good as before
    assert state(carl) == "member"
    assert carl.neighbors() == {"anna"}


def test_a_preview_changes_nothing() -> None:
    stage, anna, _bert, _carl = introduced()
    kept = anna.ask("members.revoke", peer="bert", preview=True)
    falls = anna.ask("members.revoke", peer="bert", preview=True, all=True)
    assert not kept["done"]
    assert not falls["done"]
    assert [entry["name"] for entry in kept["kept"]] == [entry["name"] for entry in falls["fallen"]] == ["carl"]
    assert kept["kept"][0]["known_since"] <= stage.unix
    assert anna.neighbors() == {"bert", "carl"}
    assert not anna.node.view().revocations


def test_since_goes_by_when_it_was_first_seen_here() -> None:
    stage, anna, bert, carl = introduced()
    stage.skip(5 * DAY)
    stage.advance(5)
    stolen = stage.unix
    eve = stranger(stage, "eve")  # whom the thief admits, and dates long before the theft
    anna.hear(bert, Records((record_of(stage, eve, admitted_by(bert, eve, "eve", stolen - 4 * DAY)),)))
    assert "eve" in members(anna)
    anna.restart()
    stage.advance(5)
    answer = anna.ask("members.revoke", peer="bert", since=stolen - 60)
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert [entry["name"] for entry in answer["fallen"]] == ["eve"]
    assert members(anna) == members(carl) - {"anna"} | {"carl"} == {"carl"}


def test_whom_a_thief_admits_later_falls_however_it_is_dated() -> None:
    stage, anna, bert, carl, dora = four()
    chain = bert.node.membership.chain
    anna.ask("members.revoke", peer="bert")
    for days in (-5, 0, 5):
        eve = stranger(stage, f"eve {days}")
        data = record_of(stage, eve, admitted_by(bert, eve, "eve", stage.unix + 60 * days, chain))
        carl.hear(dora, Records((data,)))  # dora means no harm: nobody had told her
        carl.hear(dora, Records((data,)))
    assert "eve" not in members(carl)
    assert carl.counters["records_rejected"] == 6
    assert {notice["reason"] for notice in carl.notices("record_rejected")} == {"issuer_revoked"}
    assert "dora" in carl.neighbors()


def test_whom_a_thief_admitted_falls_though_an_admin_has_renewed_it() -> None:
    """Admins' daemons renew whoever asks; who let it in is not forgotten by that."""
    stage = Stage("anna", "bert", "carl", "eve", "eric")
    stage.found("anna")
    stage.join("bert", "anna")
    stage.join("carl", "bert")
    stage.skip(5 * DAY)
    stage.advance(5)
    stolen = stage.unix
    stage.advance(5)
    stage.join("eve", "bert")
    stage.advance(5)
    stage.join("eric", "eve")
    stage.advance(5)
    anna, carl, eve, eric = (stage[name] for name in ("anna", "carl", "eve", "eric"))
    assert all(len(player.node.membership.chain) == 2 for player in (carl, eve, eric))
    answer = anna.ask("members.revoke", peer="bert", since=stolen, preview=True)
    assert [entry["name"] for entry in answer["kept"]] == ["carl"]
    assert {entry["name"] for entry in answer["fallen"]} == {"eve", "eric"}
    anna.ask("members.revoke", peer="bert", since=stolen)
    assert members(anna) == {"carl"}
    assert members(carl) == {"anna"}
    assert (state(carl), state(eve), state(eric)) == ("member", "revoked", "revoked")
    stage.skip(3 * 3600)
    stage.advance(30)
    assert anna.neighbors() == {"carl"}


def test_its_own_record_by_another_mouth_is_refused() -> None:
    _stage, anna, bert, carl, dora = four()
    record = bert.node.membership.own_record
    assert record is not None
    anna.ask("members.revoke", peer="bert")
    carl.hear(dora, Records((record.encoded,)))
    assert not carl.node.membership.is_member(bert.id)
    assert carl.notices("record_rejected")[-1]["reason"] == "revoked"


def test_a_token_of_the_revoked_opens_nothing_but_its_own_island() -> None:
    """Handed out before. The thief's daemon answers it, and nobody else has anything to do with whom it lets in."""
    stage, anna, bert, carl, dora = four()
    token = stage.mint("bert")
    deaf(stage, bert)
    anna.ask("members.revoke", peer="bert")
    stage.add("eric")
    number = stage["eric"].request("mesh.join", token=token, name="eric")
    stage.advance(60)
    assert isinstance(stage["eric"].answers[number], dict)
    assert stage["eric"].neighbors() == {"bert"}
    for player in (anna, carl, dora):
        assert members(player) == {"anna", "carl", "dora"} - {player.name}


def test_the_revoked_has_no_tokens_any_more() -> None:
    stage, anna, bert, _, _ = four()
    token = stage.mint("bert")
    anna.ask("members.revoke", peer="bert")
    assert not bert.node.view().introductions
    stage.add("eric")
    number = stage["eric"].request("mesh.join", token=token, name="eric")
    stage.advance(60)
    answer = stage["eric"].answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.TOKEN_REVOKED


# -- who may, and what is refused -------------------------------------------------------------------------------------


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


# -- admins -----------------------------------------------------------------------------------------------------------


def admins(player: Player) -> set[str]:
    return {entry["name"] for entry in player.node.view().admins}


def test_a_second_admin_does_what_the_first_does() -> None:
    stage, anna, bert, carl, dora = four()
    assert carl.ask("admins.appoint", peer="bert", mesh_key=KEY) == {"peer_id": bert.id, "name": "bert"}
    stage.advance(1)
    for player in (anna, bert, carl, dora):
        assert admins(player) == {"anna", "bert"}
    anna.crash()
    stage.advance(20)
    assert bert.ask("node.rename", peer="dora", name="dorothy")["name"] == "dorothy"
    assert carl.ask("node.rename", name="charles")["name"] == "charles"  # who asks whatever admin there is
    stage.advance(1)
    bert.ask("members.revoke", peer="dorothy")
    assert state(dora) == "revoked"
    anna.start()
    stage.advance(120)
    assert members(anna) == {"bert", "charles"}


def test_oneself_is_appointed_too() -> None:
    stage, anna, bert, carl, _ = four()
    anna.crash()
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(30)
    assert admins(carl) == {"anna", "bert"}
    bert.ask("members.revoke", peer="anna", mesh_key=KEY)
    assert admins(carl) == {"bert"}
    anna.start()
    stage.advance(60)
    assert anna.neighbors() == set()
    assert members(carl) == {"bert", "dora"}
    assert state(stage["dora"]) == "member"  # who was admitted by the revoked one
    stage.advance(20)
    assert carl.node.membership.chain[-1].issuer == bert.id


def test_the_wrong_key_is_told_apart() -> None:
    _, anna, *_ = four()
    for method in ("admins.appoint", "admins.remove"):
        assert anna.refusal(method, peer="bert", mesh_key=bytes(32)) is Code.MESH_KEY_WRONG
        assert anna.refusal(method, peer="bert") is Code.INVALID_PARAMS
    assert anna.refusal("admins.remove", peer="bert", mesh_key=KEY) is Code.REFUSED
    assert anna.refusal("admins.appoint", peer="nobody", mesh_key=KEY) is Code.PEER_UNKNOWN


def test_whom_nobody_reaches_is_not_appointed() -> None:
    stage, anna, bert, *_ = four()
    bert.crash()
    stage.advance(30)
    assert anna.refusal("admins.appoint", peer="bert", mesh_key=KEY) is Code.PEER_UNREACHABLE


def test_the_founder_is_removed_and_stays_a_member() -> None:
    stage, anna, bert, carl, dora = four()
    links = {player.name: player.neighbors() for player in stage.players.values()}
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(1)
    assert bert.ask("admins.remove", peer="anna", mesh_key=KEY)["admins_left"] == 1
    stage.advance(1)
    for player in (anna, bert, carl, dora):
        assert admins(player) == {"bert"}
        assert player.neighbors() == links[player.name]
    assert anna.notices("admin_removed") == [{"name": "anna"}]
    assert anna.refusal("members.revoke", peer="carl") is Code.REFUSED
    assert anna.refusal("node.rename", peer="carl", name="x") is Code.REFUSED
    assert not any(state(player) == "revoked" for player in (anna, carl, dora))
    anna.restart()
    stage.advance(60)
    assert admins(anna) == {"bert"}
    stage.add("eric")
    stage.join("eric", "anna")  # as any member
    stage.advance(20)
    assert "eric" in members(carl)


def test_an_admin_is_removed_and_revoked_within_a_second() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(0.1)
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    stage.advance(0.1)
    bert.ask("members.revoke", peer="anna")
    assert state(anna) == "revoked"
    assert members(carl) == {"bert", "dora"}


def test_a_removed_admin_that_was_away_steps_down_when_it_hears() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.advance(1)
    anna.crash()
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    anna.start()
    stage.advance(120)
    assert admins(anna) == admins(carl) == {"bert"}
    assert anna.neighbors() == {"bert", "carl", "dora"}


def test_a_removed_admin_is_appointed_anew() -> None:
    stage, anna, bert, carl, _ = four()
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    bert.ask("admins.appoint", peer="anna", mesh_key=KEY)  # within the same second
    stage.advance(1)
    assert admins(carl) == admins(anna) == {"anna"}
    stage.advance(5)
    anna.ask("members.revoke", peer="dora")
    assert members(carl) == {"anna", "bert"}


def test_an_admin_that_is_appointed_and_removed_again_and_again_within_a_second_steps_down() -> None:
    stage, anna, bert, carl, dora = four()
    for _ in range(3):  # each appointment of the same second is dated one later than the removal before it
        carl.ask("admins.appoint", peer="bert", mesh_key=KEY)
        carl.ask("admins.remove", peer="bert", mesh_key=KEY)
    stage.advance(1)
    for player in (anna, bert, carl, dora):
        assert admins(player) == {"anna"}
    assert not bert.node.membership.chain[0].rights & Rights.ADMIN
    assert len(bert.notices("admin_removed")) == 3


def test_a_removed_admin_admits_renews_and_revokes_nobody_however_it_dates() -> None:
    stage, anna, bert, carl, dora = four()
    old: tuple[Certificate, ...] = anna.node.membership.chain
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    stage.advance(1)
    for days in (-20, -1, 0):
        moment = int(stage.unix) + days * DAY
        late = revocation_by(stage, anna, dora.id, authority=old[0], issued=moment, expires=int(stage.unix) + DAY)
        carl.hear(anna, Revocations((late.encoded,)))
        eve = stranger(stage, f"eve {days}")
        carl.hear(anna, Records((record_of(stage, eve, admitted_by(anna, eve, "eve", moment, old)),)))
    assert {notice["reason"] for notice in carl.notices("revocation_rejected")} == {"issuer_revoked"}
    assert {notice["reason"] for notice in carl.notices("record_rejected")} == {"issuer_revoked"}
    chain = admitted_by(anna, carl.suite, "anna-2", stage.unix, old)
    carl.hear(anna, AdmissionIssued(0, tuple(c.encoded for c in chain)))
    assert carl.node.membership.name == "carl"
    assert members(carl) == {"anna", "bert", "dora"}


def test_an_old_appointment_played_again_appoints_nobody() -> None:
    stage, anna, bert, carl, _ = four()
    old = anna.node.membership.chain
    bert.ask("admins.appoint", peer="bert", mesh_key=KEY)
    bert.ask("admins.remove", peer="anna", mesh_key=KEY)
    stage.advance(1)
    anna.hear(carl, AdmissionIssued(0, (old[0].encoded,)))
    assert admins(anna) == {"bert"}
    bert.hear(carl, AdmissionIssued(0, (old[0].encoded,)))
    assert bert.node.membership.name == "bert"


def test_a_stolen_admin_is_revoked_by_the_mesh_key_and_its_last_deeds_with_it() -> None:
    """It revokes somebody, dated back; the revocation that names the day of the theft voids that."""
    stage, anna, bert, carl, dora = four()
    anna.ask("admins.appoint", peer="bert", mesh_key=KEY)
    stage.skip(5 * DAY)
    stage.advance(5)
    stolen = stage.unix
    stage.advance(5)
    evil = revocation_by(stage, bert, dora.id, issued=int(stolen) - DAY, expires=int(stolen) + 9 * DAY)
    for player in (anna, carl):
        player.hear(bert, Revocations((evil.encoded,)))
    assert "dora" not in members(carl)
    anna.ask("members.revoke", peer="bert", mesh_key=KEY, since=stolen)
    assert len(carl.node.view().revocations) == 1
    assert not carl.node.revocations.bars(dora.id)
    stage.join("dora", "anna")
    stage.advance(5)
    assert members(carl) == {"anna", "dora"}


def test_the_room_that_revocations_take_is_compared_by_digests() -> None:
    _stage, anna, _bert, carl, dora = four()
    anna.ask("members.revoke", peer="bert")
    known = carl.node.revocations.digests()
    assert known == dora.node.revocations.digests()
    sent = len(carl.sent(Revocations))
    carl.hear(dora, RevocationsKnown(known))
    assert len(carl.sent(Revocations)) == sent
    carl.hear(dora, RevocationsKnown(b""))
    assert len(carl.sent(Revocations)) == sent + 1
    carl.hear(dora, RevocationsKnown(known[:-1]))
    assert "dora" not in carl.neighbors()  # digests that do not add up are malformed
    assert cm.CloseLink in {type(command) for command in carl.log}


def test_digests_are_of_what_was_signed() -> None:
    stage, _anna, bert, *_ = four()
    chain = bert.node.membership.chain
    assert digest(chain[-1], mesh_of(stage)) != digest(chain[0], mesh_of(stage))
