"""One end of a link in a process of its own: descriptions over stdin and stdout, then bytes one way.

``link_process.py send SIZE`` or ``link_process.py receive SIZE``; the receiver says how many MiB have come, and
``done`` with the digest of all.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent.parent), str(Path(__file__).parent.parent / "links")]

import trio  # noqa: E402
from link_ends import End, open_end  # noqa: E402

from meshd.config import LinksConfig  # noqa: E402
from meshd.core.events import LinkConnected, LinkPrepared, MessageReceived  # noqa: E402
from meshd.links.guest import run  # noqa: E402
from meshd.wire.session_description import decode, encode  # noqa: E402

MIB = 1 << 20


def say(*words: object) -> None:
    print(*words, flush=True)


async def main(role: str, size: int) -> None:
    end = End()
    async with open_end(end, LinksConfig()) as end.port:
        end.prepare(offerer=role == "send")
        say(base64.b64encode(encode((await end.wait(LinkPrepared)).description)).decode())
        line = await trio.to_thread.run_sync(sys.stdin.readline)
        end.connect(decode(base64.b64decode(line)))
        await end.wait(LinkConnected)
        ours, theirs = socket.socketpair()
        if role == "receive":
            await end.wait(MessageReceived)  # as the core does: a stream is open at the sender's first
        end.open_stream(theirs.detach())
        end.send(b"open")
        user = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        digest = hashlib.blake2b(digest_size=16)
        if role == "send":
            for number in range(size // MIB):
                piece = number.to_bytes(4) * (MIB // 4)
                digest.update(piece)
                await user.send_all(piece)
            await user.send_eof()
            say("sent", digest.hexdigest())
            async for _ in user:
                pass
        else:
            total = 0
            async for piece in user:
                digest.update(piece)
                if (total + len(piece)) // MIB > total // MIB:
                    say("got", (total + len(piece)) // MIB)
                total += len(piece)
            statistics = next(iter(end.port.statistics().values()), None)
            say("done", digest.hexdigest(), total, statistics.packet_size if statistics else 0)
        await trio.to_thread.run_sync(sys.stdin.readline)


run(main, sys.argv[1], int(sys.argv[2]))
