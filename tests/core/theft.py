"""A mesh that somebody is stolen from: who is in it, and what a thief's key can sign."""

from __future__ import annotations

import hashlib
from typing import Any

from playbook import Player, Stage

from meshd.crypto.admission import Chain, Rights, issue
from meshd.crypto.revocation import Revocation, Scope, revoke
from meshd.ids import MeshId, PeerId
from meshd.sim.suite import SimSuite
from meshd.wire.messages import LINK_MESSAGES, AdmissionWanted, Revocations, RevocationsKnown, decode_message
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


def admins(player: Player) -> set[str]:
    return {entry["name"] for entry in player.node.view().admins}
