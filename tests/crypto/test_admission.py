"""Chains: what holds, and everything that somebody might try."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_keys import DAY, FOUNDER, MESH, MESH_SEED, NOW, certificate, founder_chain, member_chain, seed, suite

from meshd.crypto import identity
from meshd.crypto.admission import (
    MAX_CERTIFICATE_SIZE,
    MAX_CHAIN_LENGTH,
    MAX_GROUNDS,
    Certificate,
    Chain,
    Ground,
    Rights,
    _Body,
    _Signed,
    decode_certificate,
    decode_chain,
    digest,
    expires_at,
    grounds_of,
    issue,
    verify_chain,
)
from meshd.errors import MalformedMessage, Rejected
from meshd.ids import CLOCK_SKEW, MeshId, is_name
from meshd.wire.codec import decode, encode, pack, unpack

OTHER_MESH = MeshId(identity.public_of(seed("another mesh")))


def travelled(chain: Chain) -> Chain:
    return decode_chain(item.encoded for item in chain)


def check(chain: Chain, now: float = NOW, mesh: MeshId = MESH) -> None:
    verify_chain(travelled(chain), mesh, now, identity.verify)


def refused(chain: Chain, now: float = NOW, mesh: MeshId = MESH) -> str:
    with pytest.raises(Rejected) as caught:
        check(chain, now, mesh)
    return caught.value.reason


# -- what holds -------------------------------------------------------------------------------------------------------


def test_the_founder() -> None:
    check(founder_chain())


def test_a_member_admitted_by_an_admin() -> None:
    check(member_chain("bert"))
    check(member_chain("bert", Rights.NONE))


def test_a_member_admitted_by_a_member() -> None:
    check((*member_chain("bert"), certificate("bert", "carl")))
    check((*member_chain("bert"), certificate("bert", "carl"), certificate("carl", "dora", Rights.NONE)))


def test_an_admin_renames_itself() -> None:
    renamed = (*founder_chain(), certificate("anna", "anna", FOUNDER, name="annette"))
    check(renamed)
    check((*renamed, certificate("anna", "bert")))


def test_a_chain_comes_back_as_it_was() -> None:
    chain = member_chain("bert")
    assert travelled(chain) == chain


@settings(max_examples=30)
@given(
    st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True),
    st.sampled_from(list(Rights)),
    st.integers(0, 2**40 - 1),
    st.integers(0, 2**40 - 1),
)
def test_a_certificate_comes_back_as_it_was(name: str, rights: Rights, issued: int, expires: int) -> None:
    made = certificate("anna", "bert", rights, name=name, issued=issued, expires=expires)
    assert decode_certificate(made.encoded) == made
    assert len(made.encoded) <= MAX_CERTIFICATE_SIZE


def test_what_a_renewal_rests_on() -> None:
    carl = (*member_chain("bert"), certificate("bert", "carl"))
    anna, olga = suite("anna").peer_id, suite("olga").peer_id
    (ground,) = grounds_of(carl, MESH, anna)  # what it has signed itself, it knows
    assert ground == Ground(suite("bert").peer_id[:8], digest(carl[2], MESH), by_admin=False)
    assert [g.by_admin for g in grounds_of(carl, MESH, olga)] == [False, True]
    renewed = issue(
        suite("olga").sign,
        MESH,
        olga,
        subject=suite("carl").peer_id,
        name="c" * 32,
        rights=Rights.NONE,
        issued=NOW,
        expires=2**40 - 1,
        grounds=grounds_of(carl, MESH, olga),
    )
    chain = travelled((certificate(None, "olga", FOUNDER), renewed))
    check(chain)
    assert grounds_of(chain, MESH, olga) == grounds_of(carl, MESH, olga)
    assert [g.issuer for g in grounds_of(chain, MESH, anna)] == [suite(n).peer_id[:8] for n in ("bert", "olga")]


def test_what_lets_many_in_one_after_the_other_is_not_pushed_out() -> None:
    """A thief has itself, and those it lets in, renewed again and again: in the end nobody renews them any more."""
    chain: Chain = member_chain("thief 0")
    for number in range(MAX_GROUNDS):
        chain = (*chain, certificate(f"thief {number}", f"thief {number + 1}"))
        renewed = issue(
            suite("anna").sign,
            MESH,
            suite("anna").peer_id,
            subject=suite(f"thief {number + 1}").peer_id,
            name="t" * 32,
            rights=Rights.INTRODUCE,
            issued=NOW,
            expires=2**40 - 1,
            grounds=grounds_of(chain, MESH, suite("anna").peer_id),
        )
        assert len(renewed.encoded) <= MAX_CERTIFICATE_SIZE
        chain = travelled((*founder_chain(), renewed))
        assert suite("thief 0").peer_id[:8] in [ground.issuer for ground in renewed.grounds]
    longer = (*chain, certificate(f"thief {MAX_GROUNDS}", "thief 99"))
    with pytest.raises(Rejected, match="too_far_from_admin"):
        grounds_of(longer, MESH, suite("anna").peer_id)


def test_grounds_that_do_not_add_up() -> None:
    body = encode(_Body(suite("eve").peer_id, suite("anna").peer_id, "eve", 1, NOW, NOW + DAY, bytes(26)))
    with pytest.raises(MalformedMessage):
        decode_certificate(encode(_Signed(body, bytes(64))))


# -- what an attacker may try -----------------------------------------------------------------------------------------


def test_a_stranger_makes_itself_a_member() -> None:
    assert refused((certificate("eve", "eve", FOUNDER),)) == "chain_broken"
    assert refused((certificate(None, "eve", FOUNDER, signer="eve"),)) == "bad_signature"


def test_a_member_appoints_an_admin() -> None:
    assert refused((*member_chain("bert"), certificate("bert", "eve", FOUNDER))) == "may_not_appoint"
    assert refused((*member_chain("bert"), certificate("bert", "eve", Rights.ADMIN))) == "may_not_appoint"


def test_a_member_appoints_itself() -> None:
    assert refused((*member_chain("bert"), certificate("bert", "bert", FOUNDER))) == "may_not_appoint"


def test_an_admin_appoints_an_admin() -> None:
    """Only the mesh key does."""
    assert refused((*founder_chain(), certificate("anna", "bert", FOUNDER))) == "may_not_appoint"


def test_a_member_without_the_right_admits() -> None:
    assert refused((*member_chain("bert", Rights.NONE), certificate("bert", "eve"))) == "may_not_introduce"
    assert refused((*member_chain("bert", Rights.NONE), certificate("bert", "eve", Rights.NONE))) == "may_not_introduce"


def test_a_member_renames_itself() -> None:
    """Names are given by others, or anybody could take anybody's."""
    assert refused((*member_chain("bert"), certificate("bert", "bert", name="anna"))) == "may_not_rename"


def test_a_member_lengthens_its_own_time() -> None:
    short = certificate("anna", "bert", expires=NOW + 100)
    assert refused((*founder_chain(), short, certificate("bert", "bert", name="bert"))) == "may_not_rename"
    assert refused((*founder_chain(), short, certificate("bert", "carl")), NOW + 100) == "admission_expired"


def test_a_chain_of_five() -> None:
    chain = (
        *member_chain("bert"),
        certificate("bert", "carl"),
        certificate("carl", "dora"),
        certificate("dora", "eve"),
    )
    assert len(chain) == MAX_CHAIN_LENGTH + 1
    with pytest.raises(MalformedMessage):
        check(chain)
    check(chain[:-1])


def test_no_chain_at_all() -> None:
    with pytest.raises(MalformedMessage):
        check(())


def test_the_issuer_is_not_the_one_before() -> None:
    assert refused((*founder_chain(), certificate("bert", "carl"))) == "chain_broken"
    assert refused(member_chain("bert")[1:]) == "chain_broken"
    assert refused(tuple(reversed(member_chain("bert")))) == "chain_broken"


def test_the_mesh_key_in_the_middle() -> None:
    assert refused((*founder_chain(), certificate(None, "bert", FOUNDER))) == "chain_broken"


def test_signed_by_another_than_named() -> None:
    assert refused((*founder_chain(), certificate("anna", "eve", signer="eve"))) == "bad_signature"


def test_a_chain_of_another_mesh() -> None:
    assert refused(member_chain("bert"), mesh=OTHER_MESH) == "chain_broken"
    # the same admin in two meshes: the certificate for one is none for the other
    elsewhere = (certificate(None, "anna", FOUNDER), certificate("anna", "eve", mesh=OTHER_MESH))
    assert refused(elsewhere) == "bad_signature"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_expired_anywhere_ends_all_below(at: int) -> None:
    ends = [NOW + 1000] * 3
    ends[at] = NOW + 10
    chain = (
        certificate(None, "anna", FOUNDER, expires=ends[0]),
        certificate("anna", "bert", expires=ends[1]),
        certificate("bert", "carl", expires=ends[2]),
    )
    assert expires_at(chain) == NOW + 10
    check(chain, NOW + 9.9)
    assert refused(chain, NOW + 10) == "admission_expired"


def test_issued_in_the_future() -> None:
    chain = (*founder_chain(), certificate("anna", "bert", issued=NOW + int(CLOCK_SKEW) + 1, expires=NOW + DAY))
    assert refused(chain) == "admission_in_future"
    check(chain, NOW + 1)


@pytest.mark.parametrize("name", ["", "Anna", "a b", "-a", "a-", "ä", "a\n", "a\x1b[2J", "x" * 33, "../etc"])
def test_names_that_are_none(name: str) -> None:
    assert not is_name(name)
    body = encode(_Body(suite("eve").peer_id, suite("anna").peer_id, name, 1, NOW, NOW + DAY))
    signature = suite("anna").sign(b"meshd admission 1\0" + MESH + body)
    with pytest.raises(MalformedMessage):
        decode_certificate(encode(_Signed(body, signature)))


def test_every_changed_byte_is_refused() -> None:
    chain = member_chain("bert")
    for index, item in enumerate(chain):
        for position in range(len(item.encoded)):
            changed = bytearray(item.encoded)
            changed[position] ^= 1
            parts = [certificate.encoded for certificate in chain]
            parts[index] = bytes(changed)
            with pytest.raises((Rejected, MalformedMessage)):
                verify_chain(decode_chain(parts), MESH, NOW, identity.verify)


def test_a_signature_has_one_form() -> None:
    """Ed25519 with S + L verifies in careless libraries: RFC 8032 section 5.1.7 wants S below the order L."""
    order = 2**252 + 27742317777372353535851937790883648493
    item = member_chain("bert")[1]
    signed = decode(_Signed, item.encoded, 256)
    s = int.from_bytes(signed.signature[32:], "little") + order
    forged = signed.signature[:32] + s.to_bytes(32, "little")
    chain = (*founder_chain(), decode_certificate(encode(_Signed(signed.body, forged))))
    assert refused(chain) == "bad_signature"


def test_a_signature_made_for_something_else() -> None:
    """What a peer signs as a record or envelope is no certificate: each kind has a context of its own."""
    body = encode(_Body(suite("eve").peer_id, suite("anna").peer_id, "eve", 1, NOW, NOW + DAY))
    for context in (b"", b"meshd record 1\0", b"meshd envelope 1\0", b"meshd admission 2\0"):
        item = decode_certificate(encode(_Signed(body, suite("anna").sign(context + MESH + body))))
        assert refused((*founder_chain(), item)) == "bad_signature"


def test_rights_of_later_versions_give_nothing() -> None:
    body = encode(_Body(suite("bert").peer_id, suite("anna").peer_id, "bert", 0xFC, NOW, NOW + DAY))
    signature = suite("anna").sign(b"meshd admission 1\0" + MESH + body)
    item = decode_certificate(encode(_Signed(body, signature)))
    assert item.rights == Rights.NONE
    check((*founder_chain(), item))
    assert refused((*founder_chain(), item, certificate("bert", "eve"))) == "may_not_introduce"


def test_fields_of_later_versions_are_signed_too() -> None:
    body = pack(
        [*unpack(encode(_Body(suite("bert").peer_id, suite("anna").peer_id, "bert", 1, NOW, NOW + DAY)), 300), 5]
    )
    signature = suite("anna").sign(b"meshd admission 1\0" + MESH + body)
    check((*founder_chain(), decode_certificate(encode(_Signed(body, signature)))))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_certificate(data)


@given(st.binary(max_size=150))
def test_any_signed_body_is_a_certificate_or_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_certificate(encode(_Signed(body, bytes(64))))


def test_a_huge_certificate_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode_certificate(bytes(MAX_CERTIFICATE_SIZE + 1))


# -- a model ----------------------------------------------------------------------------------------------------------


PEOPLE = ("anna", "bert", "carl", "dora", None)
links = st.tuples(
    st.just("the one before") | st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE[:4]),
    st.sampled_from([*Rights, FOUNDER]),
    st.sampled_from([DAY, DAY, DAY, -1]),
)


@settings(max_examples=150)
@given(st.lists(links, min_size=1, max_size=4))
def test_what_verifies_is_what_the_rules_say(drawn: list[tuple[str | None, str, Rights, int]]) -> None:
    chain: list[Certificate] = []
    holds = True
    above: tuple[str | None, Rights] = (None, FOUNDER)
    for depth, (said, subject, rights, lifetime) in enumerate(drawn):
        issuer = above[0] if said == "the one before" else said
        expires = NOW + lifetime
        chain.append(certificate(issuer, subject, rights, expires=expires))
        may_admit = bool(above[1] & FOUNDER)
        appoints = bool(rights & Rights.ADMIN)
        itself = issuer == subject
        holds &= issuer == above[0] and may_admit and expires > NOW
        holds &= not appoints or depth == 0 or (itself and bool(above[1] & Rights.ADMIN))
        holds &= not itself or bool(above[1] & Rights.ADMIN)
        above = (subject, rights)
    try:
        check(tuple(chain))
    except Rejected:
        assert not holds
    else:
        assert holds
    assert identity.public_of(MESH_SEED) == MESH
