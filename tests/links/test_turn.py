"""Relay candidates, with Debian's coturn on loopback: over UDP, TCP and TLS, and whatever may go wrong with them."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from link_ends import LOOPBACK, End, link_up, open_end, run_clean, settle, two_ends

from demo.processes import Process, wait_for
from meshd.config import LinksConfig
from meshd.core.events import LinkClosed, LinkConnected, LinkPrepared
from meshd.errors import ConfigError
from meshd.links import link, turn
from meshd.links.turn import TurnFailed, read_credentials

USER, PASSWORD = "lab", "not-a-secret"
pytestmark = pytest.mark.e2e
needs_coturn = pytest.mark.needs("turnserver")


def free_port() -> int:
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        return port


class Coturn(Process):
    """A TURN server on loopback, for TLS too."""

    def __init__(self, directory: Path) -> None:
        super().__init__("coturn", directory / "coturn.log")
        self.directory = directory
        self.port, self.tls_port = free_port(), free_port()
        self.ca_file = directory / "ca.pem"
        self._make_certificate()

    def start(self) -> None:
        began = len(self.log())
        self.launch(
            "turnserver",
            "-n",
            "--listening-ip=127.0.0.1",
            "--relay-ip=127.0.0.1",
            f"--listening-port={self.port}",
            f"--tls-listening-port={self.tls_port}",
            f"--cert={self.ca_file}",
            f"--pkey={self.directory / 'key.pem'}",
            "--allow-loopback-peers",
            "--lt-cred-mech",
            f"--user={USER}:{PASSWORD}",
            "--realm=lab.test",
            "--cli-password=none",
            "--no-cli",
            "--log-file=stdout",
            f"--pidfile={self.directory / 'turn.pid'}",
            f"--userdb={self.directory / 'turn.db'}",
        )
        wait_for(lambda: "SQLite DB connection success" in self.log()[began:], "coturn has started")

    def _make_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "turn.lab.test")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = serialization.PrivateFormat.PKCS8
        no_password = serialization.NoEncryption()
        (self.directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, private, no_password))

    def config(self, *servers: str, password: str = PASSWORD, ice: str = "relay_only") -> LinksConfig:
        """One with these servers: ``udp``, ``tcp`` or ``tls`` is this one, over that."""
        file = self.directory / "credentials"
        file.touch(mode=0o600)
        file.write_text(f"{USER}\n{password}\n")
        named = {
            "udp": f"turn:127.0.0.1:{self.port}",
            "tcp": f"turn:127.0.0.1:{self.port}?transport=tcp",
            "tls": f"turns:127.0.0.1:{self.tls_port}",
        }
        return LinksConfig(
            allow_loopback=True,
            addresses=("127.0.0.1",),
            ice=ice,
            turn_servers=tuple(named.get(server, server) for server in servers),
            turn_credentials=str(file),
            turn_ca_file=str(self.ca_file),
            gather_timeout=5.0,
        )


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coturn]:
    server = Coturn(tmp_path_factory.mktemp("coturn"))
    server.start()
    yield server
    server.kill()


@needs_coturn
@pytest.mark.parametrize("over", ["udp", "tcp", "tls"])
def test_links_over_a_relay_alone(coturn: Coturn, over: str) -> None:
    async def main() -> None:
        async with two_ends(coturn.config(over)) as (a, b):
            await link_up(a, b)
            up = await a.wait(LinkConnected)
            assert (up.local_kind, up.remote_kind) == ("relay", "relay")
            prepared = await a.wait(LinkPrepared)
            assert [c.kind for c in prepared.description.candidates] == ["relay"], "nothing else is shown"
            big = bytes(range(256)) * 200
            a.send(big)
            await settle(lambda: b.messages() == [big])

    run_clean(main)


@needs_coturn
def test_all_servers_are_raced_and_dead_ones_cost_nothing(coturn: Coturn) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        dead = f"turn:127.0.0.1:{silent.getsockname()[1]}"
        closed = f"turn:127.0.0.1:{free_port()}?transport=tcp"

        async def main() -> None:
            async with two_ends(coturn.config(dead, closed, "udp")) as (a, b):
                await link_up(a, b)

        run_clean(main)


@needs_coturn
def test_direct_comes_before_relayed(coturn: Coturn) -> None:
    async def main() -> None:
        async with two_ends(coturn.config("udp", ice="turn")) as (a, b):
            await link_up(a, b)
            assert (await a.wait(LinkConnected)).local_kind == "host"
            assert {c.kind for c in (await a.wait(LinkPrepared)).description.candidates} == {"host", "relay"}

    run_clean(main)


@needs_coturn
@pytest.mark.parametrize(("ice", "is_linked"), [("mesh", False), ("stun", True)])
def test_a_relay_is_answered_only_by_who_allows_it(
    coturn: Coturn, ice: str, is_linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ICE_TIMEOUT", 2.0)  # relays are held back for 1.2 s

    async def main() -> None:
        relayed, direct = End(), End()
        with trio.fail_after(20):
            async with (
                open_end(relayed, coturn.config("udp")) as relayed.port,
                open_end(direct, replace(LOOPBACK, ice=ice)) as direct.port,
            ):
                if is_linked:
                    await link_up(relayed, direct)
                    return
                relayed.prepare(offerer=True)
                direct.prepare(offerer=False)
                direct.connect((await relayed.wait(LinkPrepared)).description)
                relayed.connect((await direct.wait(LinkPrepared)).description)
                assert (await relayed.wait(LinkClosed)).reason == "ice_failed"
                assert direct.port.counters["check_from_relay"] > 0

    run_clean(main)


def complaint_with(config: LinksConfig) -> str:
    async def main() -> str:
        end = End()
        async with open_end(end, config) as port:
            end.port = port
            end.prepare(offerer=True)
            prepared = await end.wait(LinkPrepared)
            assert prepared.description.candidates == ()
            await settle(lambda: bool(end.faults))
            fault = end.faults[0]
            assert isinstance(fault, TurnFailed)
            return str(fault)

    result: str = run_clean(main)
    return result


@needs_coturn
def test_a_wrong_password_is_said(coturn: Coturn) -> None:
    assert "does not know our user and password" in complaint_with(coturn.config("udp", password="wrong"))


@needs_coturn
def test_a_certificate_of_an_unknown_authority_is_said(coturn: Coturn) -> None:
    config = replace(coturn.config("tls"), turn_ca_file="")
    assert "its certificate does not hold" in complaint_with(config)


@needs_coturn
def test_channels_are_refreshed_while_data_flows(coturn: Coturn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "CHANNEL_REFRESH_TIME", 0)

    async def main() -> None:
        async with two_ends(coturn.config("udp")) as (a, b):
            await link_up(a, b)
            for number in range(50):
                a.send(b"%d" % number)
            await settle(lambda: len(b.messages()) == 50)
            assert a.port.counters["turn_refresh_failed"] == 0

    run_clean(main)


@needs_coturn
def test_an_allocation_that_is_lost_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "MIN_RETRY_INTERVAL", 0.05)
    coturn = Coturn(tmp_path)
    coturn.start()
    try:

        async def main() -> None:
            async with two_ends(coturn.config("tcp"), patience=30.0) as (a, b):
                await link_up(a, b)
                coturn.kill()
                await settle(lambda: a.port.counters["turn_lost"] == b.port.counters["turn_lost"] == 1)
                coturn.start()
                await settle(lambda: bool(a.port._book.snapshot() and b.port._book.snapshot()))
                await link_up(a, b, link=2)
                a.faults.clear()
                b.faults.clear()

        run_clean(main)
    finally:
        coturn.kill()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (b"user\npassword\n", 0o644, "chmod 600"),
        (b"user", 0o600, "two lines"),
        (b"user\n\n", 0o600, "two lines"),
        (b"\xff\n\xff\n", 0o600, "two lines"),
        (b"user\npassword\nmore\n", 0o600, "two lines"),
    ],
)
def test_credentials_that_cannot_be_used(tmp_path: Path, text: bytes, mode: int, said: str) -> None:
    file = tmp_path / "credentials"
    file.write_bytes(text)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=said):
        read_credentials(str(file))


def test_credentials_are_two_lines(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_credentials(str(file))
    file.write_bytes(b"1800000000:lab\nnot a secret\n")
    file.chmod(0o400)
    assert read_credentials(str(file)) == ("1800000000:lab", "not a secret")
