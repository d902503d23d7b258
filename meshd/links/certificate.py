"""The DTLS certificate: one a day, shared by that day's links.

A certificate for each link would cost each a key and a TLS context (0.3 ms and 20 KB) and buy nothing: who is at the
other end is proved by the identity's signature over both fingerprints, on every link anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from meshd.links.webrtc import RTCCertificate

# Policy
ROTATION_INTERVAL = 86_400.0  # a day: what a stolen key can impersonate on links ends with it


def fingerprint_of(certificate: Any) -> bytes:
    """SHA-256 over a DER certificate, 32 bytes (RFC 8122)."""
    digest: bytes = certificate.fingerprint(hashes.SHA256())
    return digest


class LinkCertificate(RTCCertificate):
    """A certificate whose TLS context is made once."""

    _context: SSL.Context | None = None

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate, 32 bytes."""
        return fingerprint_of(self._cert)

    def _create_ssl_context(self, srtp_profiles: Any) -> SSL.Context:
        """What aiortc makes for each connection, made once for each certificate."""
        if self._context is None:
            context: SSL.Context = super()._create_ssl_context(srtp_profiles)
            # Each handshake would leave a session behind in a context that lives for a day; nobody resumes any.
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            # A link that has nothing to say holds 34 KB here instead of 79.
            context.set_mode(SSL.MODE_RELEASE_BUFFERS)
            # A peer could have us shake hands for ever.
            context.set_options(SSL.OP_NO_RENEGOTIATION)
            self._context = context
        return self._context


def _clock() -> float:
    """Seconds, those included in which the machine was asleep: a laptop's days are days, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DailyCertificate:
    """Hands out the certificate of the day. A link keeps the one that it was prepared with."""

    def __init__(self, clock: Callable[[], float] = _clock) -> None:
        self._clock = clock
        self._made_at = float("-inf")
        self._certificate: LinkCertificate | None = None

    def current(self) -> LinkCertificate:
        """The certificate for a link that begins now."""
        now = self._clock()
        if self._certificate is None or now - self._made_at >= ROTATION_INTERVAL:
            self._certificate = LinkCertificate.generateCertificate()
            self._made_at = now
        return self._certificate

    def renew(self) -> None:
        """Links that begin from now on get another one."""
        self._certificate = None

    def age(self) -> float | None:
        """Seconds since the one of the day was made; None before the first."""
        return None if self._certificate is None else self._clock() - self._made_at
