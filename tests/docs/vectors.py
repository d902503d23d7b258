"""The test vectors of ``docs/protocol.md``, made from fixed seeds: the same bytes on every run.

``python tests/docs/vectors.py`` prints them as they stand in the page. Sealing draws its own ephemeral key in the
daemon, so HPKE is spelled out here with a fixed one: a second implementation of RFC 9180, base mode, which the first
one must be able to open.
"""

from __future__ import annotations

import hmac
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from meshd.core.overlay.neighbors import Link, Neighbors
from meshd.crypto import identity, vapid, webpush
from meshd.crypto.admission import Rights, issue
from meshd.crypto.p256 import compress_point
from meshd.crypto.suite import RealSuite
from meshd.ids import Instance, LinkId, MeshId, Now, SessionId, short, text_of
from meshd.wire import envelope, messages, parts
from meshd.wire.codec import encode
from meshd.wire.endpoint import split_endpoint
from meshd.wire.frame import ResetCode, encode_credit, encode_data, encode_reset, encode_varint, fragment
from meshd.wire.introduction import Introduction, encode_token, introduction_id, proof_of
from meshd.wire.link_state import make_link_state
from meshd.wire.record import RELAYS, make_record
from meshd.wire.session_description import Candidate, SessionDescription
from meshd.wire.session_description import encode as encode_description

ISSUED = 1_767_225_600  # 2026-01-01T00:00:00Z
DAY = 86_400
ENDPOINT = "https://push.example.net/wpush/v2/AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
SESSION = SessionId(bytes.fromhex("5e55105e55105e55"))
FINGERPRINT_A, FINGERPRINT_B = bytes([0xFA]) * 32, bytes([0xFB]) * 32


def seed(number: int) -> bytes:
    """32 bytes that are all the same number: a seed for a vector and for nothing else."""
    return bytes([number]) * 32


@dataclass(frozen=True, slots=True)
class Vector:
    """One value of the worked example. ``lines`` are named pieces, in hex or text."""

    title: str
    pieces: tuple[tuple[str, bytes | str], ...]


# -- HPKE with a fixed ephemeral key (RFC 9180, base mode, single shot, no aad) ---------------------------------------


def _extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, size: int) -> bytes:
    info = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, info + b"\x01", "sha256")[:size]


def hpke_seal(recipient: bytes, info: bytes, plaintext: bytes, ephemeral_seed: bytes) -> bytes:
    """enc, then ciphertext and tag."""
    ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_seed)
    enc = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    kem = b"KEM\x00\x20"
    eae = _extract(b"", kem, b"eae_prk", shared)
    secret = _expand(eae, kem, b"shared_secret", enc + recipient, 32)
    suite = b"HPKE\x00\x20\x00\x01\x00\x03"
    context = b"\x00" + _extract(b"", suite, b"psk_id_hash", b"") + _extract(b"", suite, b"info_hash", info)
    schedule = _extract(secret, suite, b"secret", b"")
    key = _expand(schedule, suite, b"key", context, 32)
    nonce = _expand(schedule, suite, b"base_nonce", context, 12)
    return enc + ChaCha20Poly1305(key).encrypt(nonce, plaintext, None)


class FixedSuite(RealSuite):
    """The real suite, but for the ephemeral key."""

    plaintext = b""

    def seal(self, recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
        self.plaintext = plaintext
        return hpke_seal(recipient, info, plaintext, seed(0xEE))


# -- the cast ---------------------------------------------------------------------------------------------------------

MESH_SEED = seed(0x01)
MESH = MeshId(identity.public_of(MESH_SEED))
ALICE = FixedSuite(seed(0x0A), seed(0x1A))
BOB = FixedSuite(seed(0x0B), seed(0x1B))
TOKEN_SEED, TOKEN_SECRET, CHANNEL_SEED = seed(0x70), bytes([0x5E]) * 16, seed(0xC4)

DESCRIPTION = SessionDescription(
    ufrag="abcd",
    pwd="ABCDEFGHIJKLMNOPQRSTUVWX",
    fingerprint=FINGERPRINT_B,
    setup="actpass",
    candidates=(
        Candidate("host", "192.0.2.7", 40000),
        Candidate("host", "2001:db8::7", 40001),
        Candidate("srflx", "198.51.100.9", 50000),
    ),
)

ADMIN_CERTIFICATE = issue(
    lambda message: identity.sign(MESH_SEED, message),
    MESH,
    MESH,
    subject=ALICE.peer_id,
    name="alice",
    rights=Rights.ADMIN | Rights.INTRODUCE,
    issued=ISSUED,
    expires=ISSUED + 3650 * DAY,
)
MEMBER_CERTIFICATE = issue(
    ALICE.sign,
    MESH,
    ALICE.peer_id,
    subject=BOB.peer_id,
    name="bob",
    rights=Rights.INTRODUCE,
    issued=ISSUED,
    expires=ISSUED + 365 * DAY,
)
RECORD = make_record(
    BOB,
    MESH,
    number=3,
    chain=(ADMIN_CERTIFICATE, MEMBER_CERTIFICATE),
    generation=0,
    features=0,
    instance=Instance(b"instance"),
    issued=ISSUED,
    flags=RELAYS,
)


LINK_STATE = make_link_state(BOB, MESH, number=ISSUED * 256, issued=ISSUED, neighbors=(ALICE.peer_id[:8],))


def _channel() -> tuple[parts.SubscriptionPart, str, str]:
    """A push channel from one seed: its part on the wire, the JWT that the capability stands for, its audience."""
    agent, key = webpush.derive_user_agent_keys(CHANNEL_SEED), vapid.derive_key(CHANNEL_SEED)
    audience = vapid.origin_of(ENDPOINT)
    capability = vapid.issue(key, audience, ISSUED + DAY // 2)
    prefix, tail = split_endpoint(ENDPOINT)
    part = parts.SubscriptionPart(
        prefix,
        tail,
        compress_point(agent.public),
        agent.auth,
        compress_point(key.public),
        (parts.CapabilityPart(capability.exp, capability.signature, ""),),
    )
    return part, vapid.jwt(capability, audience), audience


SUBSCRIPTION, JWT, AUDIENCE = _channel()
INTRODUCTION = Introduction(
    MESH, ALICE.peer_id, ALICE.sealing_key_of(TOKEN_SEED), TOKEN_SECRET, ISSUED + DAY // 2, (SUBSCRIPTION,)
)
BODY = messages.encode_message(messages.Ping(7))
ENVELOPE = envelope.seal(
    BOB, MESH, ALICE.peer_id, ALICE.sealing_key, session=SESSION, sequence=1, body=BODY, now=Now(0.0, float(ISSUED))
)


def _link_binding() -> bytes:
    link = Link(LinkId(1), ALICE.peer_id, SESSION, MESH)
    return Neighbors._binding(link, BOB.peer_id, ALICE.peer_id, FINGERPRINT_B, FINGERPRINT_A)


def vectors() -> Iterator[Vector]:
    """Everything, in the order of the page."""
    yield Vector(
        "Keys and ids",
        (
            ("mesh key, seed", MESH_SEED),
            ("mesh id", MESH),
            ("alice: identity seed", seed(0x0A)),
            ("alice: peer id", ALICE.peer_id),
            ("alice: as text", text_of(ALICE.peer_id)),
            ("alice: short", short(ALICE.peer_id)),
            ("alice: sealing seed", seed(0x1A)),
            ("alice: sealing key", ALICE.sealing_key),
            ("bob: identity seed", seed(0x0B)),
            ("bob: peer id", BOB.peer_id),
            ("bob: sealing seed", seed(0x1B)),
            ("bob: sealing key", BOB.sealing_key),
        ),
    )
    yield Vector(
        "Certificates: the mesh key appoints alice, alice admits bob",
        (("alice's certificate", ADMIN_CERTIFICATE.encoded), ("bob's certificate", MEMBER_CERTIFICATE.encoded)),
    )
    yield Vector("Bob's record: number 3, relays", (("record", RECORD.encoded),))
    yield Vector("Bob's link state: neighbor alice", (("link state", LINK_STATE.encoded),))
    yield Vector(
        "A session description: setup actpass, three candidates",
        (("bytes", encode_description(DESCRIPTION)),),
    )
    yield Vector(
        "A push channel and its capability",
        (
            ("channel seed", CHANNEL_SEED),
            ("endpoint", ENDPOINT),
            ("audience", AUDIENCE),
            ("subscription part", encode(SUBSCRIPTION)),
            ("the JWT rebuilt", JWT),
        ),
    )
    yield Vector(
        "A token of alice's",
        (
            ("sealing seed", TOKEN_SEED),
            ("secret", TOKEN_SECRET),
            ("introduction id", introduction_id(INTRODUCTION.sealing_key)),
            ("token", encode_token(INTRODUCTION)),
            ("session", SESSION),
            ("proof by bob in that session", proof_of(TOKEN_SECRET, BOB.peer_id, SESSION)),
        ),
    )
    yield Vector(
        "An envelope from bob to alice: Ping 7",
        (
            ("body", BODY),
            ("outside", ENVELOPE[: envelope.HEADER_SIZE]),
            ("inside, before sealing", BOB.plaintext),
            ("ephemeral seed", seed(0xEE)),
            ("the whole envelope", ENVELOPE),
        ),
    )
    yield Vector(
        "The binding that bob's hello to alice signs",
        (
            ("bob's fingerprint", FINGERPRINT_B),
            ("alice's fingerprint", FINGERPRINT_A),
            ("signed bytes", _link_binding()),
            ("signature", BOB.sign(_link_binding())),
        ),
    )
    yield Vector(
        "Frames",
        (
            ("Heartbeat 1, control", fragment(messages.encode_message(messages.Heartbeat(1)), 0)[0]),
            ("Ping 7, priority message", fragment(BODY, 1)[0]),
            ("DATA, stream 5, offset 300, 'hi', last, bulk", encode_data(5, 300, b"hi", priority=2, last=True)),
            ("CREDIT, stream 5, limit 100000, priority message", encode_credit(5, 100_000, priority=1)),
            ("RESET, stream 5, code 0 (done), bulk", encode_reset(5, ResetCode.DONE, priority=2)),
            (
                "StreamWanted 5 for 'backup', no parameters, control",
                fragment(messages.encode_message(messages.StreamWanted(5, "backup", b"")), 0)[0],
            ),
            ("varint 16384", encode_varint(16_384)),
        ),
    )


def render() -> str:
    """As it stands in the page."""
    parts: list[str] = []
    for vector in vectors():
        parts += [f"#### {vector.title}", "", "```"]
        for name, value in vector.pieces:
            text = value.hex() if isinstance(value, bytes) else value
            if len(name) + len(text) <= 110:
                parts.append(f"{name}: {text}")
            else:
                parts.append(f"{name}{f' ({len(value)} bytes)' if isinstance(value, bytes) else ''}:")
                parts += [f"  {line}" for line in textwrap.wrap(text, 96, break_on_hyphens=False)]
        parts += ["```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    print(render())
