"""Routers on loopback, odd ones among them: a UDP server for PCP and NAT-PMP, SSDP and HTTP for UPnP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from meshd.portmap.igd import SEARCH_TARGETS, SERVICE_TYPES
from meshd.portmap.values import Gateway

LOOPBACK = "127.0.0.1"
GATEWAY = Gateway(LOOPBACK, LOOPBACK)
OUTSIDE = "8.8.8.7"

OnDatagram = Callable[[bytes], bytes | None]


@asynccontextmanager
async def udp_server(on_datagram: OnDatagram, host: str = LOOPBACK) -> AsyncIterator[int]:
    """Answers each datagram with what ``on_datagram`` gives; the port."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((host, 0))

        async def serve() -> None:
            while True:
                data, source = await socket.recvfrom(2_000)
                if (answer := on_datagram(data)) is not None:
                    await socket.sendto(answer, source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield socket.getsockname()[1]
            nursery.cancel_scope.cancel()


def search_answer(location: str) -> OnDatagram:
    text = f"HTTP/1.1 200 OK\r\nST: {SEARCH_TARGETS[0]}\r\nLOCATION: {location}\r\n\r\n"
    return lambda data: text.encode()


def pcp_answer(request: bytes, *, external: str = OUTSIDE, result: int = 0, epoch: int = 100) -> bytes:
    """What a PCP server says: ANNOUNCE is acknowledged, MAP granted as wished for or at the same port."""
    head = bytes((2, request[1] | 0x80, 0, result)) + request[4:8] + epoch.to_bytes(4, "big") + bytes(12)
    if request[1] == 0:
        return head
    port = request[42:44] if request[42:44] != b"\0\0" else request[40:42]
    address = bytes(10) + b"\xff\xff" + bytes(map(int, external.split(".")))
    return head + request[24:42] + port + address


@dataclass
class Upnp:
    """A router's UPnP over HTTP. ``faults`` come before an action succeeds; ``pages`` are other answers by path."""

    kind: str = SERVICE_TYPES[1]
    external: str = OUTSIDE
    faults: dict[str, list[int]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    entries: dict[int, tuple[str, str, str]] = field(default_factory=dict)  # by port outside: client, port, lease
    asked: list[str] = field(default_factory=list)
    port: int = 0
    on_action: Callable[[str], None] = lambda action: None

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """The URL of the description."""
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._answer, [listener])
            yield f"http://{LOOPBACK}:{self.port}/desc.xml"
            nursery.cancel_scope.cancel()

    async def _answer(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = await stream.receive_some(4_096)
            if not part:
                return
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        size = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(body) < size:
            body += await stream.receive_some(4_096)
        path = head.split()[1].decode()
        page = self.pages.get(path) or self._page(path, body.decode())
        with suppress(trio.BrokenResourceError):
            await stream.send_all(page)
        await stream.aclose()

    def _page(self, path: str, body: str) -> bytes:
        if path == "/desc.xml":
            service = f"<service><serviceType>{self.kind}</serviceType><controlURL>/ctl</controlURL></service>"
            return _http(200, f"<root><device><serviceList>{service}</serviceList></device></root>")
        action = body.partition("<u:")[2].partition(" ")[0]
        self.asked.append(action)
        self.on_action(action)
        if self.faults.get(action):
            return _fault(self.faults[action].pop(0))
        named = {name: body.partition(f"<{name}>")[2].partition("<")[0] for name in ("NewExternalPort", *_ENTRY)}
        port = int(named["NewExternalPort"] or 0)
        result = ""
        if action == "GetExternalIPAddress":
            result = f"<NewExternalIPAddress>{self.external}</NewExternalIPAddress>"
        elif action == "GetSpecificPortMappingEntry":
            if port not in self.entries:
                return _fault(714)
            result = "".join(f"<{n}>{v}</{n}>" for n, v in zip(_ENTRY, self.entries[port], strict=True))
        elif action == "DeletePortMapping":
            self.entries.pop(port, None)
        else:
            self.entries[port] = (named[_ENTRY[0]], named[_ENTRY[1]], named[_ENTRY[2]])
        if action == "AddAnyPortMapping":
            result = f"<NewReservedPort>{port}</NewReservedPort>"
        return _http(200, f"<e><b><u:{action}Response>{result}</u:{action}Response></b></e>")


_ENTRY = ("NewInternalClient", "NewInternalPort", "NewLeaseDuration")


def _http(status: int, text: str) -> bytes:
    body = text.encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def _fault(code: int) -> bytes:
    return _http(500, f"<e><f><UPnPError><errorCode>{code}</errorCode></UPnPError></f></e>")
