"""A node's two ends of Web Push on one machine: its sender, a push service, its user agent. A process of its own.

``python -m bench.push_ends ws://127.0.0.1:8085/ --pushes 200`` prints one JSON object: for each push the seconds from
handing it to the sender until it was answered 201, and until its plaintext was there at the receiving end, as the core
gets it (the encryption of RFC 8291 undone).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from typing import TypeVar

import trio

from meshd.config import PushConfig
from meshd.core.commands import AcknowledgePush, OpenUserAgent, RegisterChannel, SendPush
from meshd.core.events import ChannelRegistered, PushAnswered, PushReceived, UserAgentConnected
from meshd.crypto import vapid, webpush
from meshd.ids import ChannelId, PushId
from meshd.push.sender import PushSender
from meshd.push.user_agent import UserAgents

# Policy
WAIT = 20.0  # seconds for anything
INTERVAL = 0.02  # seconds between two pushes: one at a time, as a mesh pushes
_SIZE = 1_000  # bytes of an envelope that goes by push; padded to the sizes that pushes have

T = TypeVar("T")


async def measure(url: str, pushes: int) -> dict[str, list[float]]:
    """Push so often, one after the other."""
    events_in, events_out = trio.open_memory_channel[object](100)
    origin = f"http{url.removeprefix('ws').rstrip('/')}"
    config = PushConfig(trusted_origins=(origin,))
    sender = PushSender(config, events_in.send_nowait)
    user_agents = UserAgents(config, events_in.send_nowait, random.Random(1))
    key = vapid.derive_key(os.urandom(32))
    keys = webpush.derive_user_agent_keys(os.urandom(32))
    channel = ChannelId(os.urandom(16))

    async def event(kind: type[T]) -> T:
        with trio.fail_after(WAIT):
            while not isinstance(event := await events_out.receive(), kind):
                pass
        return event

    result: dict[str, list[float]] = {"accepted": [], "at_the_core": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(sender.run)
        await nursery.start(user_agents.run)
        user_agents.submit(OpenUserAgent(url, ""))
        await event(UserAgentConnected)
        user_agents.submit(RegisterChannel(url, channel, key.public))
        endpoint = (await event(ChannelRegistered)).endpoint
        audience = vapid.origin_of(endpoint)
        capability = vapid.issue(key, audience, int(time.time()) + 3600)
        header = vapid.authorization(capability, audience, key.public)
        for number in range(pushes):
            body = webpush.encrypt(
                os.urandom(_SIZE),
                webpush.compress_point(keys.public),
                keys.auth,
                salt=os.urandom(16),
                padded_size=webpush.padded_size_for(_SIZE),
            )
            await trio.sleep(INTERVAL)
            began = time.perf_counter()
            sender.submit(SendPush(PushId(number + 1), endpoint, header, body, 60, "high", ""))
            waiting = {PushAnswered, PushReceived}
            while waiting:
                with trio.fail_after(WAIT):
                    got = await events_out.receive()
                if isinstance(got, PushReceived):
                    webpush.decrypt(got.body, keys)
                    result["at_the_core"].append(time.perf_counter() - began)
                    user_agents.submit(AcknowledgePush(url, channel, got.version))
                elif isinstance(got, PushAnswered):
                    if got.status != 201:
                        raise RuntimeError(f"the service answered {got.status} {got.detail}")
                    result["accepted"].append(time.perf_counter() - began)
                waiting.discard(type(got))
        nursery.cancel_scope.cancel()
    return result


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(prog="push_ends", description=__doc__)
    parser.add_argument("url", help="the WebSocket of the service")
    parser.add_argument("--pushes", type=int, default=100)
    arguments = parser.parse_args()
    print(json.dumps(trio.run(measure, arguments.url, arguments.pushes)))


if __name__ == "__main__":
    main()
