"""Packages of others push to our service, and a node's user agent has what they sent."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trio
from ends import Receiver, receiving

from meshd.crypto import vapid, webpush
from meshd.crypto.base64url import decode_base64url

HERE = Path(__file__).parent
SUBJECT = "mailto:postmaster@example.org"
SIZES = (1, 1_200, webpush.MAX_PLAINTEXT_SIZE)

pytestmark = pytest.mark.root  # for `make check`, which installs what is not ours


async def by_pywebpush(receiver: Receiver, plaintext: bytes) -> int:
    import requests
    from pywebpush import webpush

    session = requests.Session()
    session.trust_env = False
    session.verify = str(receiver.certificate)

    def send() -> int:
        answer = webpush(
            receiver.subscription,
            plaintext,
            vapid_private_key=receiver.private_key,
            vapid_claims={"sub": SUBJECT},
            ttl=60,
            requests_session=session,
        )
        return answer.status_code

    with session:
        return await trio.to_thread.run_sync(send)


async def by_http_ece_and_py_vapid(receiver: Receiver, plaintext: bytes) -> int:
    import http_ece
    from cryptography.hazmat.primitives.asymmetric import ec
    from py_vapid import Vapid02

    endpoint, keys = receiver.subscription["endpoint"], receiver.subscription["keys"]
    body = http_ece.encrypt(
        plaintext,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=decode_base64url(keys["p256dh"]),
        auth_secret=decode_base64url(keys["auth"]),
        version="aes128gcm",
    )
    claims = {"aud": vapid.origin_of(endpoint), "exp": int(time.time()) + 3600, "sub": SUBJECT}
    headers = Vapid02.from_raw(receiver.private_key.encode()).sign(claims)
    headers |= {"TTL": "60", "Content-Encoding": "aes128gcm"}
    context = ssl.create_default_context(cafile=str(receiver.certificate))
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        return (await http.post(endpoint, content=body, headers=headers)).status_code


async def by_web_push(receiver: Receiver, plaintext: bytes) -> int:
    keys = {"subject": SUBJECT, "publicKey": receiver.public_key, "privateKey": receiver.private_key}
    command = {
        "subscription": receiver.subscription,
        "payload": base64.b64encode(plaintext).decode(),
        "options": {"vapidDetails": keys, "TTL": 60, "topic": "offer", "urgency": "high"},
    }
    done = await trio.run_process(
        ["node", str(HERE / "send.cjs")],
        stdin=json.dumps(command).encode(),
        capture_stdout=True,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(receiver.certificate)},
    )
    return int(done.stdout)


SENDERS = [
    pytest.param(by_pywebpush, marks=pytest.mark.needs("python:pywebpush")),
    pytest.param(by_http_ece_and_py_vapid, marks=pytest.mark.needs("python:http_ece", "python:py_vapid")),
    pytest.param(by_web_push, marks=pytest.mark.needs("node")),
]


@pytest.mark.parametrize("send", SENDERS)
async def test_what_others_push_arrives(send: Callable[[Receiver, bytes], Awaitable[int]], tmp_path: Path):
    async with receiving(tmp_path) as receiver:
        for size in SIZES:
            plaintext = os.urandom(size)
            with trio.fail_after(30):
                assert await send(receiver, plaintext) == 201
            assert await receiver.next() == plaintext
