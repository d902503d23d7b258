"""A peer that is not ours: an ordinary RTCPeerConnection, which speaks SDP, as a browser does."""

from __future__ import annotations

import asyncio

from link_ends import run_clean, two_ends

from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared, MessageReceived
from meshd.links.guest import from_asyncio
from meshd.wire.frame import fragment
from meshd.wire.sdp import from_sdp, to_sdp


def test_links_with_an_ordinary_peer_connection_either_side_offering(monkeypatch):
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])

    async def main() -> None:
        async with two_ends() as (ours, _):
            for link, offering in enumerate((True, False)):
                theirs = RTCPeerConnection(RTCConfiguration(iceServers=[]))
                channel = theirs.createDataChannel("meshd", negotiated=True, id=0)
                got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                channel.on("message", lambda data, got=got: got.done() or got.set_result(data))

                async def describe(kind: str, theirs=theirs) -> str:
                    create = theirs.createOffer if kind == "offer" else theirs.createAnswer
                    await theirs.setLocalDescription(await create())
                    return theirs.localDescription.sdp

                async def told(sdp: str, kind: str, theirs=theirs) -> None:
                    await theirs.setRemoteDescription(RTCSessionDescription(sdp, kind))

                async def message(got=got) -> bytes:
                    return await got

                ours.prepare(link, offerer=offering)
                description = (await ours.wait(LinkPrepared, link)).description
                if offering:
                    await from_asyncio(told(to_sdp(description, "offer"), "offer"))
                    ours.connect(from_sdp(await from_asyncio(describe("answer"))), link)
                else:
                    ours.connect(from_sdp(await from_asyncio(describe("offer"))), link)
                    await from_asyncio(told(to_sdp(description, "answer"), "answer"))
                await ours.wait(LinkConnected, link)
                ours.send(b"hello", link=link)
                assert await from_asyncio(message()) == fragment(b"hello", 0)[0]
                channel.send(fragment(b"hello yourself", 1)[0])
                assert (await ours.wait(MessageReceived, link)).data == b"hello yourself"
                await from_asyncio(theirs.close())
                assert (await ours.wait(LinkClosed, link)).reason == "closed_by_peer"

    run_clean(main)
