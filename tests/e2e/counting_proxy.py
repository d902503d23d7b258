"""An HTTP proxy that knows one name, given with the port on loopback that it stands for: CONNECT, counted by its lines.

python counting_proxy.py push.example:443 PORT
"""

from __future__ import annotations

import sys

import trio

READ_SIZE = 16_384


async def pass_on(source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        async for data in source:
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


async def main(name: str, port: int) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head and (more := await stream.receive_some(READ_SIZE)):
                head += bytes(more)
            asked = head.partition(b"\r\n")[0].decode()
            print(asked, flush=True)
            if asked != f"CONNECT {name} HTTP/1.1":
                await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            async with await trio.open_tcp_stream("127.0.0.1", port) as onward, trio.open_nursery() as nursery:
                await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                nursery.start_soon(pass_on, stream, onward, nursery.cancel_scope)
                nursery.start_soon(pass_on, onward, stream, nursery.cancel_scope)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)
    await trio.serve_listeners(serve, [listener])


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
