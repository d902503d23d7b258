"""``meshd-push``'s configuration: file, command line, check, and what SIGHUP reads again."""

from __future__ import annotations

import signal
import ssl
import subprocess
from pathlib import Path

import pytest
import trio
from push_service_client import WAIT
from test_service_process import COMMAND, run, running
from test_service_tls import write_certificate

from meshd.daemon.document_config import PUSH_EXAMPLE
from meshd.errors import ConfigError
from meshd.push.service import configuration
from meshd.push.service.config import Limits, ServiceConfig

ROOT = Path(__file__).parents[2]


def read(file: Path, *limits: str, **given: object) -> ServiceConfig:
    return configuration.read(file, "/state", given, limits).config


def test_the_example_is_the_defaults():
    assert read(ROOT / PUSH_EXAMPLE) == ServiceConfig(Path("/state"))
    settings = configuration.read(None, "/state", {})
    assert (settings.config, settings.log, settings.verbose) == (ServiceConfig(Path("/state")), "console", False)


def test_the_file_is_read_and_the_command_line_goes_before_it(tmp_path: Path):
    file = tmp_path / "push.toml"
    file.write_text(
        '[service]\nlisten = "0.0.0.0:80"\npublic_url = "https://push.example"\nstun = "off"\n'
        'tls_certificate = "c.pem"\ntls_key = "k.pem"\ntrusted_proxies = ["10.0.0.0/8"]\nproxy_header = "forwarded"\n'
        "metrics_port = 9_100\nfsync = true\n[limits]\nkey_burst = 7\nmax_ttl = 60\n"
    )
    expected = ServiceConfig(
        Path("/state"), "0.0.0.0:80", "https://push.example", "off", Limits(key_burst=7, max_ttl=60.0),
        Path("c.pem"), Path("k.pem"), ("10.0.0.0/8",), "forwarded", 9_100, True,
    )  # fmt: skip
    assert read(file) == expected
    changed = read(file, "key_burst=8", listen="127.0.0.1:81", public_url=None)
    assert (changed.listen, changed.public_url, changed.limits.key_burst) == ("127.0.0.1:81", "https://push.example", 8)
    assert changed.limits.max_ttl == 60.0


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path):
    file = tmp_path / "push.toml"
    file.write_text(
        'listen = "x"\n[service]\nlisten_on = "x"\nmetrics_port = 70_000\n[limit]\n[limits]\nkey_rate = 0\n'
    )
    with pytest.raises(ConfigError) as caught:
        read(file)
    text = str(caught.value)
    for words in (
        "put it below [service]",
        "did you mean listen?",
        "from 0 to 65_535",
        "did you mean [limits]?",
        "key_rate",
    ):
        assert words in text
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "absent.toml")


def test_check_config_says_whether_it_is_good(tmp_path: Path):
    file = tmp_path / "push.toml"
    file.write_text('[service]\nlisten = "0.0.0.0:8085"\npublic_url = "https://push.example"\n')
    done = run("--check-config", "--config", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: good\n")
    for more, words in [
        ('trusted_proxies = ["10.0.0.1/8"]\n', "trusted_proxies"),
        ('tls_certificate = "/nowhere.pem"\ntls_key = "/nowhere.pem"\n', "able to read"),
        ('proxy_header = "x-real-ip"\n', "forwarded"),
        ('stun = "nowhere"\n', "host:port"),
    ]:
        file.write_text('[service]\nlisten = "0.0.0.0:8085"\npublic_url = "https://push.example"\n' + more)
        done = run("--check-config", "--config", str(file))
        assert done.returncode == 2
        assert words in done.stderr


async def name_served(port: int, trusted: Path) -> str:
    context = ssl.create_default_context(cafile=str(trusted))
    with trio.fail_after(WAIT):
        async with await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context) as stream:
            await stream.do_handshake()
            return dict(pair[0] for pair in stream.getpeercert()["subject"])["commonName"]


@pytest.mark.e2e
async def test_a_hangup_reads_the_certificate_again(tmp_path: Path):
    chain, key = write_certificate(tmp_path, "first")
    file = tmp_path / "push.toml"
    file.write_text(f'[service]\ntls_certificate = "{chain}"\ntls_key = "{key}"\n')
    async with running(tmp_path / "state", "--config", str(file)) as service:
        port = int(service.url.rpartition(":")[2])
        assert await name_served(port, chain) == "first"
        write_certificate(tmp_path, "second")
        service.process.send_signal(signal.SIGHUP)
        with trio.fail_after(WAIT):
            while True:
                try:
                    if await name_served(port, chain) == "second":
                        break
                except (trio.BrokenResourceError, ssl.SSLError):
                    await trio.sleep(0.02)
        key.write_text("damaged")
        service.process.send_signal(signal.SIGHUP)
        assert await name_served(port, chain) == "second"
        assert service.process.poll() is None


@pytest.mark.e2e
def test_a_wrong_certificate_is_no_start(tmp_path: Path):
    chain, key = write_certificate(tmp_path, "first")
    key.write_text("damaged")
    file = tmp_path / "push.toml"
    file.write_text(f'[service]\nlisten = "127.0.0.1:0"\ntls_certificate = "{chain}"\ntls_key = "{key}"\n')
    command = [*COMMAND, "--state", str(tmp_path / "state"), "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "both PEM" in done.stderr
