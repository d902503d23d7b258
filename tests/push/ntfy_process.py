"""The ntfy server of the tests as a process of its own: HTTP and WebSockets on a port of loopback, which it prints."""

from __future__ import annotations

import time
from collections.abc import Sequence

import h11
import trio
from ntfy_server import NtfyServer

READ_SIZE = 16_384


class Reread(trio.abc.Stream):
    """A stream whose first bytes have been read already."""

    def __init__(self, first: bytes, stream: trio.SocketStream) -> None:
        self._first = first
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def publish(ntfy: NtfyServer, stream: trio.SocketStream, first: bytes) -> None:
    """Requests to publish, one after the other."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(first)
    topic, body = "", b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(READ_SIZE)))
        elif isinstance(event, h11.Request):
            topic, body = event.target.decode().partition("?")[0].strip("/"), b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            ntfy.time = int(time.time())
            status = await ntfy.publish(topic, body)
            print(f"published {topic}: {status}", flush=True)
            answer: Sequence[h11.Event] = (
                h11.Response(status_code=status, headers=[("Content-Length", "3")]),
                h11.Data(data=b"{}\n"),
                h11.EndOfMessage(),
            )
            await stream.send_all(b"".join(http.send(part) or b"" for part in answer))
            http.start_next_cycle()
        else:
            return


async def main() -> None:
    ntfy = NtfyServer(time=int(time.time()))
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            try:
                async with stream:
                    first = b""
                    while b"\r\n\r\n" not in first and (more := await stream.receive_some(READ_SIZE)):
                        first += bytes(more)
                    if b"upgrade: websocket" in first.lower():
                        await ntfy.serve(nursery, Reread(first, stream))
                    else:
                        await publish(ntfy, stream, first)
            except trio.BrokenResourceError:
                pass  # whoever it was is gone

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)
        await trio.serve_listeners(serve, [listener])


if __name__ == "__main__":
    trio.run(main)
