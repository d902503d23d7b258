"""Asking STUN servers on loopback, odd ones among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from meshd.netcheck.observations import Server
from meshd.netcheck.prober import probe
from meshd.wire import stun

Respond = Callable[[stun.BindingRequest, stun.Address, stun.Address], list[bytes]]


@asynccontextmanager
async def stun_server(respond: Respond, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """``respond`` is given the request, who asks, and where it came to."""
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((host, 0))
        own = (host, socket.getsockname()[1])

        async def serve() -> None:
            while True:
                data, source = await socket.recvfrom(2_000)
                request = stun.decode(data)
                assert isinstance(request, stun.BindingRequest)
                for answer in respond(request, (source[0], source[1]), own):
                    await socket.sendto(answer, source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield Server(host, own[1], "asked")
            nursery.cancel_scope.cancel()


def honest(request: stun.BindingRequest, source: stun.Address, own: stun.Address) -> list[bytes]:
    return [stun.encode(stun.BindingSuccess(request.transaction, source))]


def silent(request: stun.BindingRequest, source: stun.Address, own: stun.Address) -> list[bytes]:
    return []


def refusing(request: stun.BindingRequest, source: stun.Address, own: stun.Address) -> list[bytes]:
    return [stun.encode(stun.BindingError(request.transaction, 400))]


def confused(request: stun.BindingRequest, source: stun.Address, own: stun.Address) -> list[bytes]:
    return [
        b"",
        b"\x01\x01",
        b"x" * 1_500,
        stun.encode(stun.BindingSuccess(bytes(12), source)),
        *honest(request, source, own),
    ]


def leading_inside(request: stun.BindingRequest, source: stun.Address, own: stun.Address) -> list[bytes]:
    return [stun.encode(stun.BindingSuccess(request.transaction, source, own, ("10.0.0.1", 53)))]


async def test_servers_are_asked_side_by_side_and_each_is_told_of() -> None:
    async with (
        stun_server(honest) as good,
        stun_server(silent) as mute,
        stun_server(refusing) as stern,
        stun_server(confused) as odd,
        stun_server(leading_inside) as sly,
        stun_server(honest, "::1") as sixth,
    ):
        nowhere = Server("no-such-host.invalid", 3_478, "configured")
        began = trio.current_time()
        seen = await probe([good, mute, stern, odd, sly, sixth, nowhere], 0.6, ("127.0.0.1", "::1"))
        assert trio.current_time() - began < 5
    by_server = {reply.server: reply for reply in seen.replies}
    assert by_server[mute].error == "silent"
    assert by_server[stern].error == "refused"
    assert by_server[nowhere].error == "unresolved"
    assert by_server[sly].other is None, "a server does not choose whom else we ask inside our network"
    assert by_server[sixth].family == "ipv6"
    for server in (good, odd, sly):
        reply = by_server[server]
        assert reply.mapped == seen.ipv4.local
        assert reply.round_trip_time is not None
        assert 0 < reply.round_trip_time < 0.6
    assert seen.ipv6.mappings
    assert seen.ipv4.is_hairpinned is None, "without a NAT there is no hairpin"


async def test_a_family_without_addresses_of_ours_is_left_alone() -> None:
    async with stun_server(honest) as good:
        seen = await probe([good], 0.3, ("127.0.0.1",))
        assert seen.ipv6.local is None
        assert [reply.family for reply in seen.replies] == ["ipv4"]
        none = await probe([good], 0.3, ("::1",))
        assert [reply.error for reply in none.replies] == ["unresolved"]
    assert (await probe([], 0.3, ("127.0.0.1",))).replies == ()
