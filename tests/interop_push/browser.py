"""``browser.py``: Firefox at our push service, and a node that pushes to it.

Runs in a network namespace that ``test_browser.py`` makes. Ends with status 0 if all of it went well.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "interop"))

from ends import NODE, SEED, sending
from foreign import firefox

from meshd.crypto.base64url import decode_base64url, encode_base64url
from meshd.crypto.webpush import MAX_PLAINTEXT_SIZE
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import ServiceConfig

HERE = Path(__file__).parent
PATIENCE = 120.0  # seconds for all of it
SITE = {
    "/": ("text/html", "<!doctype html>"),
    "/worker.js": ("text/javascript", (HERE / "worker.js").read_text()),
}


async def main() -> None:
    with trio.fail_after(PATIENCE), tempfile.TemporaryDirectory(prefix="push-") as state:
        async with trio.open_nursery() as nursery:
            service: PushService = await nursery.start(serve, ServiceConfig(Path(state), "127.0.0.1:0"))
            preferences = {
                "dom.push.serverURL": service.websocket_url,
                "dom.push.testing.allowInsecureServerURL": True,
                "dom.push.connection.enabled": True,  # whatever drives a browser turns it off otherwise
                "permissions.default.desktop-notification": 1,
            }
            script = (HERE / "subscriber.js").read_text()
            async with (
                firefox(files=SITE, script=script, preferences=preferences) as browser,
                sending(service.public_url) as sender,
            ):
                key = encode_base64url(NODE.uncompressed_vapid_key(SEED))
                subscription = await browser.call("subscribe", key)
                endpoint = subscription["endpoint"]
                assert endpoint.startswith(service.public_url), endpoint
                to = [decode_base64url(subscription["keys"][name]) for name in ("p256dh", "auth")]

                for size in (0, 1, 1_000, 2_000, MAX_PLAINTEXT_SIZE):
                    plaintext = os.urandom(size)
                    answered = await sender.push(endpoint, *to, plaintext)
                    assert answered.status == 201, answered
                    assert base64.b64decode(await browser.call("next")) == plaintext, size

                # Firefox subscribed with that key, so another one has no say.
                answered = await sender.push(endpoint, *to, b"x", seed=b"other" * 6 + b"ab")
                assert answered.status in (401, 403), answered

                assert await browser.call("unsubscribe")  # it tells the service a little later
                while (await sender.push(endpoint, *to, b"x")).status != 410:  # noqa: ASYNC110
                    await trio.sleep(0.2)
                assert service.counters["acknowledged_100"] >= 5, service.counters  # 100: decrypted and handed over
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
