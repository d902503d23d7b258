"""Push services through an HTTP proxy, which here stands on loopback and knows one name."""

from __future__ import annotations

import datetime
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshd.config import PushConfig
from meshd.config_toml import parse
from meshd.core.commands import OpenUserAgent, SendPush
from meshd.core.events import PushAnswered
from meshd.errors import ConfigError
from meshd.ids import PushId
from meshd.push.proxy import open_tunnel
from meshd.push.sender import PushSender
from meshd.push.user_agent import UserAgents
from meshd.push.websocket import ConnectionLost, open_stream, parse_service_url

NAME = "push.example"


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server that is ``push.example``, and for a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    path: Path = tmp_path_factory.mktemp("tls") / "both.pem"
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@dataclass
class Proxy:
    """Connects whatever it is asked for to the one server it knows, or answers ``answer``."""

    server: int = 0
    url: str = ""
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    asked: list[str] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += bytes(await stream.receive_some(4096))
        self.asked.append(head.partition(b"\r\n")[0].decode())
        await stream.send_all(self.answer)
        if b" 200 " not in self.answer:
            return
        onward = await trio.open_tcp_stream("127.0.0.1", self.server)
        async with onward, trio.open_nursery() as nursery:

            async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
                try:
                    async for data in source:
                        await target.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, stream, onward)
            await pass_on(onward, stream)


@asynccontextmanager
async def proxy_before(context: ssl.SSLContext) -> AsyncIterator[Proxy]:
    """A TLS server that answers 201 to whatever comes, and a proxy that leads to it."""
    proxy = Proxy()

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.receive_some(65_536)
            await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        except trio.BrokenResourceError:
            pass

    servers = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.server = servers[0].transport_listener.socket.getsockname()[1]
    proxy.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, servers)
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


async def push(config: PushConfig, context: ssl.SSLContext, endpoint: str) -> PushAnswered:
    send, receive = trio.open_memory_channel[PushAnswered](1)
    sender = PushSender(config, send.send_nowait, ssl_context=context)
    async with trio.open_nursery() as nursery:
        await nursery.start(sender.run)
        sender.submit(SendPush(PushId(1), endpoint, "vapid t=t, k=k", b"x", 60, "high"))
        with trio.fail_after(10):
            answer = await receive.receive()
        nursery.cancel_scope.cancel()
    return answer


async def test_a_push_goes_through_the_proxy_which_looks_the_name_up(contexts: Any) -> None:
    async with proxy_before(contexts[0]) as proxy:
        answer = await push(PushConfig(proxy=proxy.url), contexts[1], f"https://{NAME}/a")
    assert answer.status == 201
    assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "100.64.0.1"]
)
async def test_an_address_in_an_endpoint_is_judged_all_the_same(contexts: Any, host: str) -> None:
    async with proxy_before(contexts[0]) as proxy:
        answer = await push(PushConfig(proxy=proxy.url), contexts[1], f"https://{host}/a")
    assert answer.detail.startswith("endpoint_refused")
    assert proxy.asked == []


async def test_a_trusted_origin_is_reached_without_it(contexts: Any) -> None:
    async with proxy_before(contexts[0]) as proxy:
        origin = f"https://127.0.0.1:{proxy.server}"
        answer = await push(PushConfig(proxy=proxy.url, trusted_origins=(origin,)), contexts[1], f"{origin}/a")
    assert answer.detail == "tls"  # there, and it is not called so
    assert proxy.asked == []


async def test_a_proxy_that_refuses_is_named(contexts: Any) -> None:
    async with proxy_before(contexts[0]) as proxy:
        proxy.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        answer = await push(PushConfig(proxy=proxy.url), contexts[1], f"https://{NAME}/a")
        assert (answer.status, answer.detail) == (0, "proxy")
        with pytest.raises(ConnectionLost, match="proxy: 403"):
            await open_tunnel(proxy.url, NAME, 443)


@pytest.mark.parametrize(
    "answer", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 9000, b"HTTP/1.1 200 OK\r\n\r\nmore"]
)
async def test_a_proxy_that_is_none(contexts: Any, answer: bytes) -> None:
    async with proxy_before(contexts[0]) as proxy:
        proxy.answer = answer
        with pytest.raises(ConnectionLost, match="proxy: no answer"), trio.fail_after(10):
            await open_tunnel(proxy.url, NAME, 443)


async def test_a_receiver_goes_through_it_and_verifies_the_name(contexts: Any) -> None:
    async with proxy_before(contexts[0]) as proxy:
        url = parse_service_url(f"wss://{NAME}/")
        assert url is not None
        await trio.aclose_forcefully(await open_stream(url, contexts[1], proxy.url))
        other = parse_service_url("wss://other.example/")
        assert other is not None
        with pytest.raises(ConnectionLost, match="tls"):
            await open_stream(other, contexts[1], proxy.url)
    assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1", "CONNECT other.example:443 HTTP/1.1"]


async def test_user_agents_take_it_from_the_configuration(contexts: Any) -> None:
    async with proxy_before(contexts[0]) as proxy, trio.open_nursery() as nursery:
        proxy.answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
        send, receive = trio.open_memory_channel[Any](10)
        agents = UserAgents(PushConfig(proxy=proxy.url), send.send_nowait, random.Random(1))
        await nursery.start(agents.run)
        agents.submit(OpenUserAgent(f"wss://{NAME}/", ""))
        with trio.fail_after(10):
            assert (await receive.receive()).reason == "proxy: 502"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "text", ["proxy:3128", "https://proxy:3128", "http://user:word@proxy:3128", "http://proxy:3128/"]
)
def test_what_is_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="http://HOST:PORT"):
        parse(f'[push]\nproxy = "{text}"\n')
