"""Dialling checked addresses, with TLS against certificates made here: the name is still what is verified."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpcore
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshd.push.checked_connect import CheckedBackend
from meshd.push.sender import failure_of
from meshd.push.websocket import ConnectionLost, WebSocket, open_stream, parse_service_url

NAME = "push.example"


class Resolver(trio.abc.HostnameResolver):
    """Every name has these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002
        return [(socket.AF_INET, socket.SOCK_STREAM, proto, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server that is ``push.example``, and for a client that trusts its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@asynccontextmanager
async def server(context: ssl.SSLContext, answer: bytes, seen: list[bytes]) -> AsyncIterator[int]:
    """A TLS server on loopback that gives one answer to whatever comes; its port."""

    async def handler(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            seen.append(bytes(await stream.receive_some(65_536)))
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass  # the client did not like our name

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def post(backend: CheckedBackend, context: ssl.SSLContext, url: str) -> int:
    pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend)
    async with pool:
        with trio.fail_after(5):
            return (await pool.request("POST", url, content=b"")).status


async def test_a_name_is_dialled_by_its_addresses_and_verified_by_itself(contexts) -> None:
    seen: list[bytes] = []
    judged: list[str] = []
    # Nobody listens at the first address: the second one is tried.
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.2", "127.0.0.1"))
    async with server(contexts[0], b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", seen) as port:
        backend = CheckedBackend(judge=judged.append)
        assert await post(backend, contexts[1], f"https://{NAME}:{port}/x") == 201
        assert judged == ["127.0.0.2", "127.0.0.1"]
        assert f"Host: {NAME}:{port}".encode() in seen[0]
        with pytest.raises(httpcore.ConnectError) as wrong_name:
            await post(backend, contexts[1], f"https://other.example:{port}/x")
        assert failure_of(wrong_name.value) == "tls"
        with pytest.raises(httpcore.ConnectError) as unknown_authority:
            await post(backend, ssl.create_default_context(), f"https://{NAME}:{port}/x")
        assert failure_of(unknown_authority.value) == "tls"


async def test_when_no_address_answers_the_first_failure_is_told() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.2", "127.0.0.3"))
    with trio.socket.socket() as placeholder:
        await placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
        with pytest.raises(httpcore.ConnectError) as lost:
            await post(
                CheckedBackend(judge=lambda address: None), ssl.create_default_context(), f"https://{NAME}:{port}/"
            )
    assert failure_of(lost.value) == "refused"


async def test_a_websocket_over_tls_verifies_the_name(contexts) -> None:
    seen: list[bytes] = []
    trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.1"))
    async with server(contexts[0], b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", seen) as port:
        url = parse_service_url(f"wss://{NAME}:{port}/")
        async with await open_stream(url, contexts[1]) as stream:
            with pytest.raises(ConnectionLost, match="rejected: 503"):  # so far it got
                await WebSocket(stream).handshake(url)
        assert f"Host: {NAME}:{port}".encode() in seen[0]
        other = parse_service_url(f"wss://other.example:{port}/")
        with pytest.raises(ConnectionLost, match="tls"):
            await open_stream(other, contexts[1])
