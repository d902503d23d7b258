"""Message encryption for Web Push: RFC 8291 over the ``aes128gcm`` coding of RFC 8188.

Pure: keys, seeds and salts are arguments. One record always, since RFC 8291 section 4 allows no more.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshd.crypto import p256
from meshd.crypto.p256 import compress_point as compress_point
from meshd.crypto.p256 import uncompress_point as uncompress_point
from meshd.errors import LocalMisuse, MalformedMessage
from meshd.push_services import MAX_BODY_SIZE as MAX_BODY_SIZE

# Specification
AUTH_SIZE = 16  # RFC 8291 section 3.2
SALT_SIZE = 16  # RFC 8188 section 2.1
HEADER_SIZE = SALT_SIZE + 4 + 1 + p256.POINT_SIZE  # salt, rs, idlen, keyid: 86
TAG_SIZE = 16  # AES-GCM
OVERHEAD_SIZE = HEADER_SIZE + 1 + TAG_SIZE  # 103, with the delimiter
MAX_PLAINTEXT_SIZE = MAX_BODY_SIZE - OVERHEAD_SIZE  # 3993
MIN_RECORD_SIZE = 18  # RFC 8188 section 2.1
_LAST_RECORD = b"\x02"  # RFC 8188 section 2: the delimiter of the last record
_CEK_INFO = b"Content-Encoding: aes128gcm\x00\x01"  # RFC 8188 section 2.2, and HKDF's block number
_NONCE_INFO = b"Content-Encoding: nonce\x00\x01"  # RFC 8188 section 2.3

# Policy
RECORD_SIZE = 4096  # fits every body; the same in all our messages, so that it tells nothing about them
# Messages leave in one of three sizes, so that their length says little. 1200: an offer or an answer; 2640: the most
# that fits bridges with bodies of 2744 bytes (Firefox for Android); 3993: all there is.
PADDED_SIZES = (1200, 2640, MAX_PLAINTEXT_SIZE)


@dataclass(frozen=True, slots=True)
class UserAgentKeys:
    """What a subscription's owner keeps: the private P-256 scalar (32 bytes) and the auth secret (16)."""

    private: bytes = field(repr=False)
    auth: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """``p256dh``: the uncompressed point, 65 bytes."""
        return p256.public_point(self.private)


def derive_user_agent_keys(seed: bytes) -> UserAgentKeys:
    """The keys of a new subscription from 32 random bytes; the same seed gives the same keys."""
    if len(seed) != 32:
        raise LocalMisuse(f"a seed has 32 bytes, not {len(seed)}")
    return UserAgentKeys(
        private=p256.scalar_from_seed(_hmac(seed, b"meshd p256dh\x01")),
        auth=_hmac(seed, b"meshd auth\x01")[:AUTH_SIZE],
    )


def padded_size_for(size: int, max_body: int = MAX_BODY_SIZE) -> int:
    """The smallest of ``PADDED_SIZES`` that holds ``size`` bytes and makes a body of at most ``max_body``.

    Where none does, the most that the body takes. Raises LocalMisuse when ``size`` bytes do not fit.
    """
    most = min(max_body, MAX_BODY_SIZE) - OVERHEAD_SIZE
    if size > most:
        raise LocalMisuse(f"{size} bytes do not fit one push; the most is {most}")
    return next((padded for padded in PADDED_SIZES if size <= padded <= most), most)


def encrypt(
    plaintext: bytes,
    p256dh: bytes,
    auth: bytes,
    *,
    salt: bytes,
    padded_size: int | None,
    ephemeral_seed: bytes | None = None,
) -> bytes:
    """The body of a push for the subscription (``p256dh``, ``auth``): its padded size plus ``OVERHEAD_SIZE`` bytes.

    ``p256dh`` has 33 or 65 bytes. ``salt`` (16 bytes) must be fresh and random each time; so must ``ephemeral_seed``
    (32), without which the library draws a key of its own.
    Raises LocalMisuse for a plaintext over ``MAX_PLAINTEXT_SIZE`` or arguments of a wrong size, and
    MalformedMessage when ``p256dh`` is no point of the curve.
    """
    if len(plaintext) > MAX_PLAINTEXT_SIZE:
        raise LocalMisuse(f"{len(plaintext)} bytes do not fit one push; the most is {MAX_PLAINTEXT_SIZE}")
    if padded_size is None:
        padded_size = len(plaintext)
    elif not len(plaintext) <= padded_size <= MAX_PLAINTEXT_SIZE:
        raise LocalMisuse(f"{len(plaintext)} bytes cannot be padded to {padded_size}")
    if len(auth) != AUTH_SIZE or len(salt) != SALT_SIZE:
        raise LocalMisuse(f"auth has {AUTH_SIZE} bytes and salt {SALT_SIZE}, not {len(auth)} and {len(salt)}")
    user_agent = p256.public_key(p256dh)
    ephemeral = p256.one_time_private_key(None if ephemeral_seed is None else p256.scalar_from_seed(ephemeral_seed))
    sender_point = p256.point_of(ephemeral.public_key())
    secret = ephemeral.exchange(ec.ECDH(), user_agent)
    key, nonce = _content_key(secret, auth, p256.uncompress_point(p256dh), sender_point, salt)
    record = plaintext + _LAST_RECORD + bytes(padded_size - len(plaintext))
    header = salt + RECORD_SIZE.to_bytes(4) + bytes([p256.POINT_SIZE]) + sender_point
    return header + AESGCM(key).encrypt(nonce, record, None)


def decrypt(body: bytes, keys: UserAgentKeys) -> bytes:
    """The plaintext of a push that was sent to ``keys``. Raises MalformedMessage, and nothing else."""
    if not OVERHEAD_SIZE <= len(body) <= MAX_BODY_SIZE:
        raise MalformedMessage(f"a push has {OVERHEAD_SIZE} to {MAX_BODY_SIZE} bytes, not {len(body)}")
    salt = body[:SALT_SIZE]
    record_size = int.from_bytes(body[SALT_SIZE : SALT_SIZE + 4])
    if body[SALT_SIZE + 4] != p256.POINT_SIZE:
        raise MalformedMessage("the keyid is not an uncompressed point")
    sender_point = body[SALT_SIZE + 5 : HEADER_SIZE]
    record = body[HEADER_SIZE:]
    if record_size < MIN_RECORD_SIZE:
        raise MalformedMessage(f"a record size of {record_size} is below {MIN_RECORD_SIZE}")
    if len(record) > record_size:
        raise MalformedMessage("more than one record")
    # Not through the cache of public keys: an ephemeral key never comes again.
    try:
        sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender_point)
    except ValueError:
        raise MalformedMessage("the keyid is not a point of P-256") from None
    secret = p256.private_key(keys.private).exchange(ec.ECDH(), sender)
    key, nonce = _content_key(secret, keys.auth, keys.public, sender_point, salt)
    try:
        padded = AESGCM(key).decrypt(nonce, record, None)
    except InvalidTag:
        raise MalformedMessage("not encrypted for this subscription, or damaged") from None
    plaintext = padded.rstrip(b"\x00")
    if plaintext[-1:] != _LAST_RECORD:
        raise MalformedMessage("the last record has a wrong delimiter")
    return plaintext[:-1]


def _content_key(
    secret: bytes, auth: bytes, user_agent_point: bytes, sender_point: bytes, salt: bytes
) -> tuple[bytes, bytes]:
    """The AES key and nonce, RFC 8291 section 3.4. Every output fits one block of HKDF, so HMAC alone says it all."""
    key_info = b"WebPush: info\x00" + user_agent_point + sender_point + b"\x01"
    input_key = _hmac(_hmac(auth, secret), key_info)
    pseudo_random_key = _hmac(salt, input_key)
    return _hmac(pseudo_random_key, _CEK_INFO)[:16], _hmac(pseudo_random_key, _NONCE_INFO)[:12]


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
