"""The cryptography of Web Push beside that of the packages that most senders in Python use; CPU time, in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.extent import Extent
from bench.table import Figure, median
from meshd.crypto import p256, vapid, webpush
from meshd.crypto.base64url import encode_base64url

# Policy
AIM = 2.0  # times as fast as the others
SIZE = 1_200  # bytes of a push with an offer or an answer
BATCH = 25  # calls in one turn: some milliseconds, so that a change of the machine's pace hits all sides alike
AUDIENCE = "https://updates.push.services.mozilla.com"
_SERIAL = iter(range(1_800_000_000, 1 << 40))  # an `exp` for each JWT, so that none is there already

Call = Callable[[], object]


def push(extent: Extent) -> Iterator[Figure]:
    """A push encrypted, and one JWT made and put into its header. ``curve``: what OpenSSL alone takes for that."""
    yield from _compared(extent, f"a push of {SIZE:,} bytes encrypted", "http-ece", "http_ece", _encrypting)
    yield from _compared(extent, "a capability signed and written as a header", "py-vapid", "py_vapid", _signing)


def _compared(
    extent: Extent, what: str, package: str, module: str, calls: Callable[[], tuple[Call, Call, Call]]
) -> Iterator[Figure]:
    if find_spec(module) is None:
        yield Figure(what, f"{package} is not installed: make bench installs it")
        return
    ours, theirs, curve = _in_turns(calls(), max(3, extent.pings // 20))
    yield Figure(
        what,
        f"{ours * 1e6:.0f} µs; {package} {theirs * 1e6:.0f} µs",
        f">= {AIM:g} x {package}",
        f"{theirs / ours:.2f}",
        met=theirs >= AIM * ours,
    )
    yield Figure("  of which the curve, in OpenSSL", f"{curve * 1e6:.0f} µs", ratio=f"{theirs / curve:.2f}")


def _in_turns(calls: tuple[Call, ...], turns: int) -> list[float]:
    """The median CPU seconds of each call."""
    times: tuple[list[float], ...] = tuple([] for _ in calls)
    for _ in range(turns):
        for call, taken in zip(calls, times, strict=True):
            began = time.process_time()
            for _ in range(BATCH):
                call()
            taken.append((time.process_time() - began) / BATCH)
    return [median(taken) for taken in times]


def _encrypting() -> tuple[Call, Call, Call]:
    import http_ece

    keys = webpush.derive_user_agent_keys(os.urandom(32))
    plaintext = os.urandom(SIZE)

    def ours() -> object:
        return webpush.encrypt(plaintext, keys.public, keys.auth, salt=os.urandom(16), padded_size=SIZE)

    def theirs() -> object:
        key = ec.generate_private_key(ec.SECP256R1())  # as its callers do, for each push
        return http_ece.encrypt(plaintext, private_key=key, dh=keys.public, auth_secret=keys.auth, version="aes128gcm")

    def curve() -> object:
        return ec.generate_private_key(ec.SECP256R1()).exchange(ec.ECDH(), p256.public_key(keys.public))

    return ours, theirs, curve


def _signing() -> tuple[Call, Call, Call]:
    from py_vapid import Vapid02

    key = vapid.derive_key(os.urandom(32))
    signer = Vapid02.from_raw(encode_base64url(key.private).encode())

    def ours() -> object:
        return vapid.authorization(vapid.issue(key, AUDIENCE, next(_SERIAL)), AUDIENCE, key.public)

    def theirs() -> Any:
        return signer.sign({"aud": AUDIENCE, "exp": next(_SERIAL), "sub": vapid.DEFAULT_SUBJECT})["Authorization"]

    def curve() -> object:
        return p256.private_key(key.private).sign(AUDIENCE.encode(), ec.ECDSA(hashes.SHA256()))

    return ours, theirs, curve
