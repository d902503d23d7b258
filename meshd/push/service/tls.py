"""TLS by the service itself: a certificate from files that are read again when told to; renewing needs no restart."""

from __future__ import annotations

import ssl
from pathlib import Path

from meshd.errors import ConfigError


class ServerCertificate:
    """A certificate chain and its key, both PEM files, and the context that serves them. Raises ConfigError."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = self._read()

    def reload(self) -> None:
        """Read the files again; connections made from now on get what they say. Raises ConfigError; the old one stays.

        Into a context of its own: a chain without its key, as while they are being replaced, is not half taken over.
        """
        self.context = self._read()

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password of ours OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._chain, self._key, password="")
        except ssl.SSLError as error:
            raise ConfigError(
                f"{self._chain} and {self._key}: {error.reason or error}; "
                "give a certificate chain and its unencrypted key, both PEM"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self._chain} or {self._key}: {error.strerror}; this user must be able to read both"
            ) from None
        return context
