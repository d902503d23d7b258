"""What a revocation voids, what it keeps, and everything that somebody might try with one, or against one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_keys import DAY, FOUNDER, MESH, MESH_SEED, NOW, certificate, founder_chain, member_chain, seed, suite

from meshd.crypto import identity
from meshd.crypto.admission import Certificate, Chain, Rights, decode_certificate, digest, issue, verify_chain
from meshd.crypto.admission import _Signed as _SignedCertificate
from meshd.crypto.revocation import (
    MAX_KEPT,
    MAX_LIFETIME,
    MAX_REVOCATION_SIZE,
    Revocation,
    Revoked,
    Scope,
    _Signed,
    decode_revocation,
    revocation_digest,
    revoke,
    verify_revocation,
)
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, MeshId
from meshd.wire.codec import decode, encode, pack, unpack

ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point


def revocation(
    issuer: str | None,
    subject: str,
    scope: Scope = Scope.MEMBER,
    *,
    issued: int = NOW,
    expires: int = NOW + DAY,
    void_from: int | None = None,
    kept: tuple[Certificate | bytes, ...] = (),
    authority: Certificate | None = None,
    instead: Certificate | None = None,
    mesh: MeshId = MESH,
    signer: str | None = None,
) -> Revocation:
    """``issuer`` None is the mesh key; another one is an admin, with the certificate that makes it one."""

    def sign(message: bytes) -> bytes:
        who = signer or issuer
        return identity.sign(MESH_SEED, message) if who is None else suite(who).sign(message)

    if issuer is not None and authority is None:
        authority = certificate(None, issuer, FOUNDER)
    return revoke(
        sign,
        mesh,
        mesh if issuer is None else suite(issuer).peer_id,
        subject=suite(subject).peer_id,
        scope=scope,
        name=subject,
        issued=issued,
        expires=expires,
        void_from=issued if void_from is None else void_from,
        kept=[item if isinstance(item, bytes) else digest(item, mesh) for item in kept],
        authority=authority,
        instead=instead,
    )


def check(one: Revocation, now: float = NOW, mesh: MeshId = MESH) -> None:
    verify_revocation(decode_revocation(one.encoded), mesh, now, identity.verify)


def refused(one: Revocation, now: float = NOW, mesh: MeshId = MESH) -> str:
    with pytest.raises(Rejected) as caught:
        check(one, now, mesh)
    return caught.value.reason


def fate(chain: Chain, *revocations: Revocation) -> str:
    """Why a chain does not hold any more; empty if it does. Whatever the order in which they have come."""
    fates = set()
    for order in itertools.permutations(revocations):
        try:
            verify_chain(chain, MESH, NOW, identity.verify, Revoked(MESH, order).judge)
        except Rejected as rejected:
            fates.add(rejected.reason)
        else:
            fates.add("")
    assert len(fates) == 1
    return fates.pop()


BERT = member_chain("bert")
CARL = (*BERT, certificate("bert", "carl"))
EVE = (*BERT, certificate("bert", "eve", issued=NOW - 300))  # whom the thief of bert admits, dated back


# -- what is said -----------------------------------------------------------------------------------------------------


def test_it_comes_back_as_it_was() -> None:
    made = revocation("anna", "bert", kept=CARL[2:])
    assert decode_revocation(made.encoded) == made
    check(made)
    check(revocation(None, "bert"))
    check(revocation(None, "anna", Scope.ADMIN, instead=certificate(None, "anna")))


def test_the_largest_one_fits() -> None:
    kept = tuple(bytes([n]) * 16 for n in range(MAX_KEPT))
    made = revocation("anna", "bert", kept=kept)
    assert len(made.encoded) <= MAX_REVOCATION_SIZE
    check(made)


def test_who_may_say_so() -> None:
    assert refused(revocation("bert", "carl", authority=BERT[1])) == "may_not_revoke"
    assert refused(revocation("bert", "carl", authority=founder_chain()[0])) == "may_not_revoke"
    forged = certificate(None, "bert", FOUNDER, signer="bert")
    assert refused(revocation("bert", "carl", authority=forged)) == "bad_signature"
    by_admin = certificate("anna", "bert", FOUNDER)
    assert refused(revocation("bert", "carl", authority=by_admin)) == "chain_broken"
    assert refused(revocation(None, "bert", signer="anna")) == "bad_signature"
    assert refused(revocation("anna", "bert", signer="carl")) == "bad_signature"


def test_only_the_mesh_key_takes_an_admins_rights_alone() -> None:
    assert refused(revocation("anna", "bert", Scope.ADMIN)) == "may_not_revoke"
    assert refused(revocation("anna", "bert", instead=certificate(None, "bert"))) == "may_not_revoke"


def test_what_it_puts_in_place_is_of_the_mesh_keys_hand_and_no_admin() -> None:
    for odd in (certificate(None, "carl"), certificate(None, "anna", FOUNDER)):
        assert refused(revocation(None, "anna", Scope.ADMIN, instead=odd)) == "revocation_contradicts_itself"
    forged = certificate(None, "anna", signer="anna")
    assert refused(revocation(None, "anna", Scope.ADMIN, instead=forged)) == "bad_signature"


def test_of_another_mesh() -> None:
    other = MeshId(identity.public_of(seed("another mesh")))
    assert refused(revocation(None, "bert"), mesh=other) == "may_not_revoke"
    assert refused(revocation("anna", "bert"), mesh=other) == "chain_broken"


def test_times() -> None:
    assert refused(revocation("anna", "bert", issued=NOW + int(CLOCK_SKEW) + 1, expires=NOW + DAY)) == (
        "revocation_in_future"
    )
    assert refused(revocation("anna", "bert"), NOW + DAY) == "revocation_expired"
    assert refused(revocation(None, "bert", expires=NOW + MAX_LIFETIME + 1)) == "revocation_too_long"
    assert refused(revocation("anna", "bert", expires=NOW + DAY + 1)) == "revocation_too_long"  # than its authority


@given(st.binary(max_size=300))
def test_any_bytes_are_a_revocation_or_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_revocation(data)


@settings(max_examples=200)
@given(st.data())
def test_every_changed_byte_is_refused(data: st.DataObject) -> None:
    made = revocation("anna", "bert", kept=CARL[2:], issued=NOW - 5)
    changed = bytearray(made.encoded)
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Rejected, MalformedMessage)):
        verify_revocation(decode_revocation(bytes(changed)), MESH, NOW, identity.verify)


def test_a_scope_of_later_versions_is_malformed() -> None:
    signed = decode(_Signed, revocation("anna", "bert").encoded, MAX_REVOCATION_SIZE)
    body = unpack(signed.body, MAX_REVOCATION_SIZE)
    body[2] = 9
    with pytest.raises(MalformedMessage):
        decode_revocation(encode(_Signed(pack(body), signed.signature)))


# -- what it does -----------------------------------------------------------------------------------------------------


def test_the_revoked_is_no_member_and_what_is_not_kept_is_void() -> None:
    one = revocation("anna", "bert", kept=CARL[2:])
    assert fate(BERT) == fate(CARL) == fate(EVE) == ""
    assert fate(BERT, one) == "revoked"
    assert fate(CARL, one) == ""
    assert fate(EVE, one) == "issuer_revoked"
    assert fate(founder_chain(), one) == ""


def test_dating_back_gains_nothing() -> None:
    one = revocation("anna", "bert", kept=CARL[2:])
    for issued in (0, NOW - 10 * DAY, NOW - 1, NOW, NOW + 1):
        assert fate((*BERT, certificate("bert", "eve", issued=issued)), one) == "issuer_revoked"


def test_what_is_kept_must_be_dated_before_the_day() -> None:
    assert fate(CARL, revocation("anna", "bert", kept=CARL[2:], void_from=NOW - 1)) == "issuer_revoked"


def test_all_of_it() -> None:
    assert fate(CARL, revocation("anna", "bert", void_from=0)) == "issuer_revoked"
    assert fate((*CARL, certificate("carl", "dora")), revocation("anna", "bert", void_from=0)) == "issuer_revoked"


def test_void_is_what_any_of_two_voids() -> None:
    dora = (*BERT, certificate("bert", "dora"))
    one = revocation("anna", "bert", kept=(CARL[2], dora[2]))
    other = revocation("olga", "bert", kept=CARL[2:])
    assert fate(CARL, one, other) == ""
    assert fate(dora, one) == ""
    assert fate(dora, one, other) == "issuer_revoked"


def test_a_new_admission_by_one_who_has_not_heard_helps_nobody() -> None:
    later = (certificate(None, "olga", FOUNDER), certificate("olga", "bert", issued=NOW + 60, expires=NOW + 2 * DAY))
    assert fate(later, revocation("anna", "bert")) == "revoked"


def test_admins_do_not_revoke_admins() -> None:
    olga = (certificate(None, "olga", FOUNDER),)
    below = (*olga, certificate("olga", "carl"))
    one = revocation("anna", "olga")
    check(one)
    assert fate(olga, one) == fate(below, one) == ""
    assert fate((*olga, certificate("olga", "olga", FOUNDER, name="olga-2")), one) == ""
    # but as the plain member that it was before, by another chain, it is revoked
    assert fate(member_chain("olga"), one) == "revoked"


def test_the_mesh_key_revokes_an_admin_and_what_it_signed() -> None:
    one = revocation(None, "anna", kept=BERT[1:])
    assert fate(founder_chain(), one) == "revoked"
    assert fate(BERT, one) == ""
    assert fate(CARL, one) == ""
    assert fate(member_chain("dora"), one) == "issuer_revoked"


def test_an_admin_that_was_removed_stays_a_member() -> None:
    plain = certificate(None, "anna", issued=NOW + 1, expires=NOW + DAY)
    one = revocation(None, "anna", Scope.ADMIN, kept=BERT[1:], instead=plain)
    assert fate(founder_chain(), one) == ""
    revoked = Revoked(MESH, [one])
    assert Revoked(MESH).rights(founder_chain()) == FOUNDER
    assert revoked.rights(founder_chain()) == revoked.rights((plain,)) == Rights.INTRODUCE
    assert not revoked.bars(suite("anna").peer_id)
    assert fate(BERT, one) == ""
    assert fate(member_chain("eve"), one) == "issuer_revoked"  # as an admin it admits nobody any more, whenever
    assert fate((*founder_chain(), certificate("anna", "anna", FOUNDER, name="annette")), one) == "issuer_revoked"
    assert fate((plain, certificate("anna", "dora", issued=NOW + 1)), one) == ""  # as a member it does
    by_another = (certificate(None, "olga", FOUNDER), certificate("olga", "anna"), certificate("anna", "dora"))
    assert fate(by_another, one) == ""


def test_an_admin_that_was_removed_is_appointed_anew() -> None:
    one = revocation(None, "anna", Scope.ADMIN)
    again = (certificate(None, "anna", FOUNDER, issued=NOW + 2),)
    assert Revoked(MESH, [one]).rights(again) == FOUNDER
    assert fate((*again, certificate("anna", "bert", issued=NOW + 2)), one) == ""
    assert fate((*again, certificate("anna", "bert", issued=NOW + 1)), one) == "issuer_revoked"


def test_the_mesh_key_takes_back_what_it_said() -> None:
    """An older certificate of it does not, nor does one of the same second."""
    one = revocation("anna", "bert")
    assert fate((certificate(None, "bert", issued=NOW + 1),), one) == ""
    assert fate((certificate(None, "bert", issued=NOW),), one) == "revoked"
    dated_back = (certificate(None, "bert", issued=NOW + 1), certificate("bert", "eve", issued=NOW))
    assert fate(dated_back, one) == "issuer_revoked"


def test_a_removed_admin_revokes_nobody_however_it_dates() -> None:
    removed = revocation(None, "anna", Scope.ADMIN)
    late = revocation("anna", "bert", issued=NOW - 9 * DAY, expires=NOW + 1)
    bert = (certificate(None, "olga", FOUNDER), certificate("olga", "bert"))
    assert fate(bert, late) == "revoked"
    assert fate(bert, late, removed) == ""
    assert fate(bert, late, revocation(None, "anna")) == ""


def test_what_a_removed_admin_had_revoked_stays_if_it_is_kept() -> None:
    good = revocation("anna", "bert", issued=NOW - 9)
    evil = revocation("anna", "carl", issued=NOW - 9)
    removed = revocation(None, "anna", kept=(revocation_digest(good, MESH),))
    olga = certificate(None, "olga", FOUNDER)
    assert fate((olga, certificate("olga", "bert")), good, evil, removed) == "revoked"
    assert fate((olga, certificate("olga", "carl")), good, evil, removed) == ""
    assert not Revoked(MESH, [removed, evil]).may_count(evil)


def test_what_leans_on_a_revocation_is_known() -> None:
    revoked = Revoked(MESH, [revocation("anna", "bert", kept=CARL[2:])])
    assert revoked.leans_on(CARL)
    assert not revoked.leans_on(member_chain("dora"))


def renewed_by(admin: str, chain: Chain, *known: Revocation) -> Chain:
    """What an admin makes of it that knows those revocations."""
    leaf = chain[-1]
    renewed = issue(
        suite(admin).sign,
        MESH,
        suite(admin).peer_id,
        subject=leaf.subject,
        name=leaf.name,
        rights=leaf.rights,
        issued=NOW + 2,
        expires=NOW + DAY,
        grounds=Revoked(MESH, known).grounds(chain, suite(admin).peer_id),
    )
    return (certificate(None, admin, FOUNDER), renewed)


def test_whom_a_thief_let_in_falls_though_an_admin_has_renewed_it() -> None:
    one = revocation("anna", "bert", kept=CARL[2:])
    for admin in ("anna", "olga"):
        assert fate(renewed_by(admin, EVE)) == ""
        assert fate(renewed_by(admin, EVE), one) == "issuer_revoked"
        assert fate(renewed_by("olga", renewed_by("anna", EVE)), one) == "issuer_revoked"
        assert fate(renewed_by(admin, CARL), one) == ""
        below = (*renewed_by(admin, EVE), certificate("eve", "dora"))
        assert fate(below, one) == fate(renewed_by("olga", below), one) == "issuer_revoked"
        kept = renewed_by(admin, CARL, one)
        assert fate(kept, one) == ""
        assert fate(kept, one, revocation("anna", "bert", void_from=0)) == "issuer_revoked"  # a stricter one finds it
        assert fate(renewed_by(admin, CARL), revocation("anna", "bert", void_from=0)) == "issuer_revoked"


def test_whom_a_stolen_admin_let_in_falls_though_another_has_renewed_it() -> None:
    dora = member_chain("dora")
    assert fate(renewed_by("olga", dora), revocation(None, "anna")) == "issuer_revoked"
    assert fate(renewed_by("olga", dora), revocation(None, "anna", Scope.ADMIN)) == "issuer_revoked"
    assert fate(renewed_by("olga", dora), revocation(None, "anna", kept=dora[1:])) == ""
    assert fate(renewed_by("olga", dora), revocation("paul", "anna")) == ""  # admins do not revoke admins
    assert fate(renewed_by("olga", CARL), revocation(None, "bert", Scope.ADMIN)) == ""  # as a member it let it in


# -- other forms of the same ------------------------------------------------------------------------------------------


def clothed(data: bytes, kind: type[_Signed | _SignedCertificate] = _Signed) -> bytes:
    """The same body and signature, with lengths written at greater length."""
    signed = decode(kind, data, MAX_REVOCATION_SIZE)
    body, signature = signed.body, signed.signature
    return b"\x92" + b"\xc6" + len(body).to_bytes(4, "big") + body + b"\xc5\x00\x40" + signature


def other_signature(data: bytes, kind: type[_Signed | _SignedCertificate] = _Signed) -> bytes:
    """S + L: careless libraries take it for another signature of the same."""
    signed = decode(kind, data, MAX_REVOCATION_SIZE)
    s = int.from_bytes(signed.signature[32:], "little") + ORDER
    return encode(kind(signed.body, signed.signature[:32] + s.to_bytes(32, "little")))


def test_other_clothes_make_no_other_statement() -> None:
    one = revocation("anna", "bert", kept=CARL[2:])
    for other in (clothed(one.encoded), other_signature(one.encoded)):
        assert revocation_digest(decode_revocation(other), MESH) == revocation_digest(one, MESH)
    check(decode_revocation(clothed(one.encoded)))
    assert refused(decode_revocation(other_signature(one.encoded))) == "bad_signature"


def test_a_kept_certificate_in_other_clothes_is_the_same_and_a_void_one_stays_void() -> None:
    one = revocation("anna", "bert", kept=CARL[2:])
    again = (*BERT, decode_certificate(clothed(CARL[2].encoded, _SignedCertificate)))
    assert digest(again[2], MESH) == digest(CARL[2], MESH)
    assert fate(again, one) == ""
    assert fate((*BERT, decode_certificate(clothed(EVE[2].encoded, _SignedCertificate))), one) == "issuer_revoked"
    for item in (EVE[2], CARL[2]):
        forged = (*BERT, decode_certificate(other_signature(item.encoded, _SignedCertificate)))
        with pytest.raises(Rejected):
            verify_chain(forged, MESH, NOW, identity.verify, Revoked(MESH, [one]).judge)


# -- a model ----------------------------------------------------------------------------------------------------------


PEOPLE = ("anna", "bert", "carl")
statements = st.tuples(
    st.sampled_from([None, "anna", "olga"]), st.sampled_from(PEOPLE), st.integers(0, 7), st.sampled_from([NOW, 0])
)


@settings(max_examples=60)
@given(st.lists(statements, max_size=4))
def test_more_revocations_never_make_more_members(drawn: list[tuple[str | None, str, int, int]]) -> None:
    """Below an admin that is never removed: each revocation takes, none gives; the order never matters."""
    olga = certificate(None, "olga", FOUNDER)
    chains = [
        (olga, certificate("olga", "bert")),
        (olga, certificate("olga", "bert"), certificate("bert", "carl")),
        (olga, certificate("olga", "carl")),
    ]
    certificates = [chain[-1] for chain in chains]
    made = [
        revocation(
            "olga" if issuer == "anna" else issuer,
            subject,
            kept=tuple(c for n, c in enumerate(certificates) if mask >> n & 1),
            void_from=void_from,
        )
        for issuer, subject, mask, void_from in drawn
    ]
    for chain in chains:
        holds = [Revoked(MESH, made[:n]).holds(chain) for n in range(len(made) + 1)]
        assert holds == sorted(holds, reverse=True)
        assert Revoked(MESH, made[::-1]).holds(chain) == holds[-1]
