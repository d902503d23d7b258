"""``meshd-push``: what it stores and delivers, in how much memory; and how long a push takes from end to end."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.extent import Extent
from bench.rows.latency import quantile
from bench.table import Figure

# Policy
USER_AGENTS = (100, 1_000, 2_000)
RATE = 500.0  # messages of 1 KB a second, stored and delivered
MEMORY_AIM = 300e6  # bytes, without TLS
SATURATION = 4 * RATE  # asked for where the question is how much is possible
TICKS = os.sysconf("SC_CLK_TCK")
# All of the load comes from one address, which no real load does.
_LIMITS = ("max_connections_per_source=4096", "source_rate=1e6", "source_burst=1000000", "newcomer_burst=10000")


@dataclass(frozen=True, slots=True)
class _Running:
    url: str
    pid: int
    certificate: Path | None

    def memory(self) -> float:
        """The most it has held in RAM, in bytes."""
        with open(f"/proc/{self.pid}/status") as lines:
            return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def cpu(self) -> float:
        """Seconds of CPU it has used."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def _service(*, tls: bool = False, state: str = "", port: int = 0) -> Iterator[_Running]:
    with tempfile.TemporaryDirectory(prefix="push-bench-") as directory:
        config = Path(directory, "push.toml")
        certificate = None
        lines = ["[service]", 'stun = "off"']
        if tls:
            certificate, key = _write_certificate(Path(directory))
            lines += [f'tls_certificate = "{certificate}"', f'tls_key = "{key}"']
        config.write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "meshd.push.service", "--config", str(config)]
        command += ["--listen", f"127.0.0.1:{port}", "--state", state or str(Path(directory, "state"))]
        for limit in _LIMITS:
            command += ["--limit", limit]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().rpartition("ready: ")[2].strip()
                yield _Running(url, process.pid, certificate)
            finally:
                process.terminate()


def _write_certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "push bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*form))
    return chain, private


class _Load:
    """The load generator, its user agents connected to ``running``; ended with the context."""

    def __init__(self, running: _Running, user_agents: int) -> None:
        self._running = running
        command = [sys.executable, "-m", "bench.push_load", running.url, "--user-agents", str(user_agents)]
        if running.certificate is not None:
            command += ["--trust", str(running.certificate)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()  # everybody is there

    def make(self, rate: float, seconds: float) -> dict[str, Any]:
        """What it reports, and under "each" the CPU seconds that the service spent on each message."""
        before = self._running.cpu()
        self.ask(f"{rate} {seconds}")
        report = self.report()
        return report | {"each": (self._running.cpu() - before) / max(1, report["accepted"])}

    def ask(self, line: str) -> None:
        """Tell it what to do."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def report(self) -> dict[str, Any]:
        """What came of it, once it has."""
        report: dict[str, Any] = json.loads(self._line())
        return report

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __enter__(self) -> _Load:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        with self._process:
            pass


def _counts(report: dict[str, Any]) -> str:
    return f"{report['accepted']:,} accepted, {report['lost']} lost, CPU {report['each'] * 1e3:.2f} ms each"


def service(extent: Extent) -> Iterator[Figure]:
    """Stored, delivered and acknowledged at a steady rate; then as fast as it goes; then with TLS."""
    many = USER_AGENTS if extent.links >= 100 else (extent.links,)
    for count in many:
        with _service() as running, _Load(running, count) as load:
            report = load.make(RATE, extent.seconds)
            memory = running.memory()
            most = load.make(SATURATION, extent.seconds / 2)
        kept = report["accepted"] == report["pushed"] and not report["lost"] and memory <= MEMORY_AIM
        times = report["delivered_after"]
        yield Figure(
            f"{count:,} user agents, {RATE:g} messages of 1 KB a second",
            f"{_counts(report)}; {memory / 1e6:.0f} MB; "
            f"delivered after p50 {times['p50'] * 1e3:.1f} ms, p99 {times['p99'] * 1e3:.0f} ms",
            "all, in <= 300 MB" if count == many[-1] else "",
            met=kept if count == many[-1] else None,
        )
        yield Figure("  as fast as it goes", f"{most['accepted'] / most['took']:,.0f} a second; {_counts(most)}")
    with _service(tls=True) as running, _Load(running, many[-1]) as load:
        report = load.make(RATE, extent.seconds)
        memory = running.memory()
    yield Figure(f"{many[-1]:,} user agents over TLS", f"{_counts(report)}; {memory / 1e6:.0f} MB")
    yield _killed(many[0], extent.seconds)


def _killed(user_agents: int, seconds: float) -> Figure:
    """SIGKILL in the middle of the load, half of the user agents away; a restart, and all come back."""
    with (
        tempfile.TemporaryDirectory(prefix="push-bench-") as state,
        _service(state=state) as running,
        _Load(running, user_agents) as load,
    ):
        load.ask("leave")
        load.report()
        load.ask(f"{RATE} {seconds}")
        time.sleep(seconds / 2)
        os.kill(running.pid, signal.SIGKILL)
        before = load.report()
        with _service(state=state, port=int(running.url.rpartition(":")[2])):
            load.ask("again")
            after = load.report()
    return Figure(
        "killed under that load, half of them away",
        f"{before['accepted']:,} answered 201, {before['lost']} of them not delivered then, "
        f"{after['lost']} not after the restart",
        "all that was answered 201",
        met=before["accepted"] > 0 and not after["lost"],
    )


def latency(extent: Extent) -> Iterator[Figure]:
    """One push at a time, through sender, service and user agent, until its plaintext is there."""
    pushes = max(5, extent.pings // 10)
    with _service() as running:
        url = f"ws{running.url.removeprefix('http')}/"
        command = [sys.executable, "-m", "bench.push_ends", url, "--pushes", str(pushes)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    times: dict[str, list[float]] = json.loads(done.stdout)
    for what, name in (("handed to the sender → at the core", "at_the_core"), ("  → answered 201", "accepted")):
        middle, late = (quantile(times[name], share) * 1e3 for share in (0.5, 0.99))
        yield Figure(what, f"p50 {middle:.2f} ms, p99 {late:.2f} ms")
