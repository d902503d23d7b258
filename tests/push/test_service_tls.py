"""The push service with a certificate of its own: served, renewed without a restart, and what goes wrong with it."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio
from certificates import write_certificate
from push_service_client import KEY, WAIT, authorization, body_of, new_channel
from trio_websocket import wrap_client_stream

from meshd.crypto.base64url import encode_base64url
from meshd.errors import ConfigError
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig


@pytest.fixture
def config(tmp_path: Path) -> ServiceConfig:
    chain, key = write_certificate(tmp_path, "first")
    return ServiceConfig(tmp_path / "state", "127.0.0.1:0", tls_certificate=chain, tls_key=key)


def trusting(config: ServiceConfig) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(config.tls_certificate))


async def name_served(service: PushService, config: ServiceConfig) -> str:
    """What the certificate calls itself that a new connection is shown."""
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", service.port, ssl_context=trusting(config))
    async with stream:
        with trio.fail_after(WAIT):
            await stream.do_handshake()
        return dict(pair[0] for pair in stream.getpeercert()["subject"])["commonName"]


async def test_pushed_and_received_over_tls(nursery: trio.Nursery, config: ServiceConfig):
    service: PushService = await nursery.start(serve, config)
    assert service.public_url == f"https://127.0.0.1:{service.port}"
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", service.port, ssl_context=trusting(config))
    async with stream, trio.open_nursery() as talking, httpx.AsyncClient(verify=trusting(config)) as http:
        ws = await wrap_client_stream(talking, stream, f"127.0.0.1:{service.port}", "/")
        await ws.send_message('{"messageType":"hello"}')
        await ws.get_message()
        channel = new_channel()
        key = encode_base64url(KEY.public)
        await ws.send_message(f'{{"messageType":"register","channelID":"{channel}","key":"{key}"}}')
        endpoint = httpx.Response(200, content=await ws.get_message()).json()["pushEndpoint"]
        assert endpoint.startswith(service.public_url)
        headers = {"TTL": "60", "Content-Encoding": "aes128gcm", "Authorization": authorization(endpoint)}
        answer = await http.post(endpoint, content=body_of(b"over TLS"), headers=headers)
        assert answer.status_code == 201
        assert channel in await ws.get_message()
        await ws.aclose()


async def test_a_renewed_certificate_needs_no_restart(nursery: trio.Nursery, config: ServiceConfig, tmp_path: Path):
    service: PushService = await nursery.start(serve, config)
    assert await name_served(service, config) == "first"
    write_certificate(tmp_path, "second")
    service.reload()
    assert await name_served(service, config) == "second"


async def test_a_bad_renewal_changes_nothing(nursery: trio.Nursery, config: ServiceConfig, tmp_path: Path):
    service: PushService = await nursery.start(serve, config)
    before = (tmp_path / "chain.pem").read_bytes()
    write_certificate(tmp_path, "second")
    (tmp_path / "chain.pem").write_bytes(before)  # only its key was copied
    with pytest.raises(ConfigError, match="both PEM"):
        service.reload()
    assert await name_served(service, config) == "first"


async def test_who_speaks_no_tls_or_nothing_is_let_go(nursery: trio.Nursery, config: ServiceConfig):
    service: PushService = await nursery.start(serve, replace(config, limits=Limits(request_timeout=0.2)))
    for said in (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"\x16\x03\x01"):
        stream = await trio.open_tcp_stream("127.0.0.1", service.port)
        async with stream:
            await stream.send_all(said) if said else None
            with trio.fail_after(WAIT):
                try:
                    while await stream.receive_some(4096):
                        pass
                except trio.BrokenResourceError:
                    pass
    assert service.counters["tls_failed"] == 3
    assert await name_served(service, config) == "first"


async def test_what_is_wrong_with_a_certificate_is_said(config: ServiceConfig, tmp_path: Path):
    chain, key = config.tls_certificate, config.tls_key
    assert chain is not None
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    for changed, words in [
        (replace(config, tls_key=None), "belong together"),
        (replace(config, tls_certificate=tmp_path / "absent.pem"), "able to read"),
        (replace(config, tls_certificate=nonsense), "both PEM"),
        (replace(config, tls_certificate=key, tls_key=chain), "both PEM"),
        (replace(config, public_url="http://push.example"), "https://"),
    ]:
        with pytest.raises(ConfigError, match=words):
            await serve(changed)
