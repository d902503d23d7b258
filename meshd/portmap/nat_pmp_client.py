"""NAT-PMP, spoken with one router."""

from __future__ import annotations

from meshd.errors import MalformedMessage
from meshd.portmap import nat_pmp
from meshd.portmap.exchange import ask, tell
from meshd.portmap.values import Address, Found, Gateway, Grant, Refusal

SILENT = Refusal("silent")


class NatPmpClient:
    """Implements ``meshd.portmap.values.MethodClient``."""

    def __init__(self, gateway: Gateway, server_port: int = nat_pmp.SERVER_PORT) -> None:
        self._gateway = gateway
        self._server_port = server_port

    async def probe(self) -> Found | Refusal:
        """See ``MethodClient``."""
        answer = await self._ask(nat_pmp.EXTERNAL_ADDRESS, nat_pmp.encode_external_address())
        if isinstance(answer, nat_pmp.ExternalAddress):
            return Found(None if answer.address == "0.0.0.0" else answer.address, answer.epoch)
        return _refusal(answer)

    async def check(self, grant: Grant) -> Found | Refusal:
        """See ``MethodClient``. The epoch tells, and the address."""
        return await self.probe()

    async def request(self, port: int, wanted: Address | None, lifetime: float) -> Grant | Refusal:
        """See ``MethodClient``."""
        outside = await self.probe()
        if isinstance(outside, Refusal):
            return outside
        if outside.external_address is None:
            return Refusal("no_external_address")
        asked = nat_pmp.encode_map(port, wanted[1] if wanted else port, int(lifetime))
        answer = await self._ask(nat_pmp.MAP_UDP, asked, port)
        if not isinstance(answer, nat_pmp.Mapped):
            return _refusal(answer)
        if not answer.external_port:
            return Refusal("malformed")
        external = (outside.external_address, answer.external_port)
        return Grant(port, external, float(answer.lifetime), answer.epoch)

    async def release(self, grant: Grant) -> None:
        """See ``MethodClient``."""
        await tell(self._gateway, self._server_port, nat_pmp.encode_map(grant.internal_port, 0, 0))

    async def _ask(self, opcode: int, request: bytes, port: int = 0) -> nat_pmp.Answer | None:
        def understand(data: bytes) -> nat_pmp.Answer | None:
            answer = nat_pmp.decode(data)
            if isinstance(answer, nat_pmp.Failure):
                return answer if answer.opcode == opcode else None
            if isinstance(answer, nat_pmp.Mapped):
                return answer if opcode == nat_pmp.MAP_UDP and answer.internal_port == port else None
            return answer if opcode == nat_pmp.EXTERNAL_ADDRESS else None

        return await ask(self._gateway, self._server_port, request, understand)


def _refusal(answer: nat_pmp.Answer | None) -> Refusal:
    return Refusal(answer.result_name) if isinstance(answer, nat_pmp.Failure) else SILENT


def announced_epoch(data: bytes) -> int | None:
    """The epoch of a router that says its address to all, as it does after a start, or None: section 3.2.1."""
    try:
        answer = nat_pmp.decode(data)
    except MalformedMessage:
        return None
    return answer.epoch if isinstance(answer, nat_pmp.ExternalAddress) else None
