"""PCP, spoken with one router."""

from __future__ import annotations

import hashlib

from meshd.errors import MalformedMessage
from meshd.portmap import pcp
from meshd.portmap.exchange import ask, tell
from meshd.portmap.values import Address, Found, Gateway, Grant, Refusal

SILENT = Refusal("silent")


class PcpClient:
    """Implements ``meshd.portmap.values.MethodClient``.

    A mapping belongs to who knows its nonce (RFC 6887 section 11.1). Ours comes from ``secret``, so that a daemon
    that was killed gets its mapping back at its next start instead of being refused until the old one has expired.
    """

    def __init__(self, gateway: Gateway, secret: bytes, server_port: int = pcp.SERVER_PORT) -> None:
        self._gateway = gateway
        self._secret = secret
        self._server_port = server_port

    async def probe(self) -> Found | Refusal:
        """See ``MethodClient``."""

        def understand(data: bytes) -> pcp.Answer | None:
            answer = pcp.decode(data)
            return answer if answer.opcode == pcp.ANNOUNCE else None

        answer = await ask(
            self._gateway, self._server_port, pcp.encode_announce(self._gateway.local_address), understand
        )
        if answer is None:
            return SILENT
        if answer.result in (pcp.RESULTS.index("unsupported_version"), pcp.RESULTS.index("address_mismatch")):
            return Refusal(answer.result_name)
        return Found(epoch=answer.epoch)  # who refuses ANNOUNCE may know MAP all the same

    async def check(self, grant: Grant) -> Found | Refusal:
        """See ``MethodClient``. The epoch tells: a server that lost its mappings, or its address, begins anew."""
        return await self.probe()

    async def request(self, port: int, wanted: Address | None, lifetime: float) -> Grant | Refusal:
        """See ``MethodClient``."""
        nonce = self._nonce(port)

        def understand(data: bytes) -> pcp.Answer | None:
            answer = pcp.decode(data)
            about = answer.assigned
            if answer.opcode != pcp.MAP:
                return None
            if about is None:
                return answer if answer.result != pcp.SUCCESS else None
            ours = (about.nonce, about.protocol, about.internal_port) == (nonce, pcp.UDP, port)
            return answer if ours else None

        asked = pcp.encode_map(self._gateway.local_address, nonce, port, int(lifetime), wanted)
        answer = await ask(self._gateway, self._server_port, asked, understand)
        if answer is None:
            return SILENT
        if answer.result != pcp.SUCCESS:
            return Refusal(answer.result_name, retry_after=float(answer.lifetime))
        assert answer.assigned is not None
        if not answer.assigned.external_port:
            return Refusal("malformed")
        external = (answer.assigned.external_address, answer.assigned.external_port)
        return Grant(port, external, float(answer.lifetime), answer.epoch)

    async def release(self, grant: Grant) -> None:
        """See ``MethodClient``."""
        nonce = self._nonce(grant.internal_port)
        asked = pcp.encode_map(self._gateway.local_address, nonce, grant.internal_port, 0)
        await tell(self._gateway, self._server_port, asked)

    def _nonce(self, port: int) -> bytes:
        about = f"{self._gateway.address} {self._gateway.local_address} {port}".encode()
        return hashlib.blake2b(about, key=self._secret, digest_size=pcp.NONCE_SIZE, person=b"meshd pcp nonce").digest()


def announced_epoch(data: bytes) -> int | None:
    """The epoch of a server that says to all that it has (re)started, or None: section 14.1.1."""
    try:
        answer = pcp.decode(data)
    except MalformedMessage:
        return None
    return answer.epoch if answer.opcode == pcp.ANNOUNCE and answer.result == pcp.SUCCESS else None
