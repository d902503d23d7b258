"""What happens to two homes' network while a stream and messages pass between them, and how soon all goes on."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from home import HOST, INSIDE, LAN_ROUTER, run
from hosts import send
from pairs import peer
from two_homes import LabHome, TwoHomes

from demo.processes import Daemon, Failed, program, wait_for

# Policy
LINE_SIZE = 512
LINE_INTERVAL = 0.02  # seconds: 25 KB/s
MESSAGE_INTERVAL = 0.5
CALM = 4.0  # seconds of undisturbed running before and after
BLOATED = 40.0  # seconds: longer than consent lasts
MAX_DELAY = 3.0  # seconds for a small message beside bulk; the router alone could hold it for two
SETTLED = 0.5  # seconds in which a disturbance has come into effect

_ports = itertools.count(30_001)


class Stream:
    """``meshctl connect`` at one daemon, ``meshctl accept`` at the other, and numbered lines that pass between."""

    def __init__(self, sender: Daemon, receiver: Daemon, interval: float = LINE_INTERVAL) -> None:
        self._interval = interval
        self._reader = self._begin(receiver, "accept", "lab", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self._writer = wait_for(lambda: self._connected(sender, receiver), f"{receiver.name} accepts a stream")
        self._written: list[float] = []  # when each line was written
        self._arrived: list[float] = []  # and when it was read, if it was the one that was due
        self._wrong = 0
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self._arrived) > 10, f"a stream from {sender.name} to {receiver.name}")

    @staticmethod
    def _begin(daemon: Daemon, *words: str, **pipes: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "MESHD_SOCKET": str(daemon.socket)}
        return subprocess.Popen([program("meshctl"), *words], env=environment, stderr=subprocess.DEVNULL, **pipes)

    def _connected(self, sender: Daemon, receiver: Daemon) -> subprocess.Popen[bytes] | None:
        """None: nobody has accepted yet."""
        opened = sender.counter("streams_opened")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        writer = self._begin(sender, "connect", receiver.name, "lab", **pipes)
        wait_for(lambda: writer.poll() is not None or sender.counter("streams_opened") > opened, "an answer")
        if writer.poll() is None:
            return writer
        writer.communicate()
        return None

    @staticmethod
    def line(number: int) -> bytes:
        return f"{number} ".encode().ljust(LINE_SIZE - 1, b"abcdefg"[number % 7 :][:1]) + b"\n"

    def _write(self) -> None:
        assert self._writer.stdin is not None
        while not self._ending.wait(self._interval):
            self._written.append(time.monotonic())
            try:
                self._writer.stdin.write(self.line(len(self._written) - 1))
                self._writer.stdin.flush()
            except OSError:
                break  # the program has ended: its exit status tells
        with contextlib.suppress(OSError):
            self._writer.stdin.close()

    def _read(self) -> None:
        assert self._reader.stdout is not None
        with self._reader.stdout as lines:
            for number, line in enumerate(lines):
                self._wrong += line != self.line(number)
                self._arrived.append(time.monotonic())

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return len(self._arrived) * LINE_SIZE

    def passes_since(self, moment: float) -> bool:
        """Whether something has arrived that was written after that."""
        return bool(self._arrived) and self._written[len(self._arrived) - 1] > moment

    def worst_delay(self, begin: float, moment: float) -> float:
        """The longest that anything written since ``begin`` was on its way after ``moment``."""
        pairs = zip(self._written, self._arrived, strict=False)
        return max(arrived - max(written, moment) for written, arrived in pairs if written > begin)

    def end(self) -> None:
        """Raises Failed unless exactly what was written has been read, and both programs say that all is well."""
        self._ending.set()
        for process in (self._writer, self._reader):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed("a stream does not end") from None
        for thread in self._threads:
            thread.join(10)
        found = (self._writer.returncode, self._reader.returncode, len(self._arrived), self._wrong)
        if found != (0, 0, len(self._written), 0):
            raise Failed(f"a stream of {len(self._written)} lines: exit statuses, lines, wrong ones: {found}")

    def kill(self) -> None:
        self._ending.set()
        for process in (self._writer, self._reader):
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join(10)


class Messages:
    """Numbered messages, both ways, from a thread."""

    def __init__(self, a: Daemon, b: Daemon) -> None:
        self._mark = f"{time.monotonic():.0f}"
        self._pairs = ((a, b), (b, a))
        self.sent = 0
        self._ending = threading.Event()
        self._problems: list[str] = []
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._ending.wait(MESSAGE_INTERVAL):
            for sender, receiver in self._pairs:
                try:
                    send(sender, receiver.name, f"{self._mark} {sender.name} {self.sent}", wait=False)
                except (Failed, OSError) as failure:
                    self._problems.append(str(failure))
            self.sent += 1

    def end(self) -> None:
        """Raises Failed unless each has arrived once."""
        self._ending.set()
        self._thread.join(20)
        if self._problems:
            raise Failed(f"messages were refused: {self._problems[0]}")
        for sender, receiver in self._pairs:
            expected = sorted(f"{self._mark} {sender.name} {number}" for number in range(self.sent))
            found: list[str] = []
            wait_for(lambda r=receiver: self._take(r, found) >= self.sent, f"messages to {receiver.name}", 30, 0.2)  # noqa: B023
            if sorted(found) != expected:
                raise Failed(f"messages to {receiver.name} are lost or doubled")

    @staticmethod
    def _take(receiver: Daemon, found: list[str]) -> int:
        """Take what is in the inbox."""
        messages = receiver.call("messages.list", limit=1000)["messages"]
        found += [base64.urlsafe_b64decode(m["body"] + "=" * (-len(m["body"]) % 4)).decode() for m in messages]
        if messages:
            receiver.call("messages.read", message_ids=[message["message_id"] for message in messages])
        return len(found)


@dataclass(frozen=True)
class Survival:
    """``seconds`` from the disturbance, or its end, until what was written then arrived. ``how`` the link did it."""

    seconds: float
    how: str
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.how}" + (f"; {self.extra}" if self.extra else "")


@dataclass(frozen=True)
class Row:
    """A disturbance; ``within`` is how soon all must go on."""

    name: str
    disturb: Callable[[TwoHomes], None]
    within: float
    kinds: tuple[str, str] = ("port_restricted", "port_restricted")
    away: float = 0.0  # seconds it lasts
    restore: Callable[[TwoHomes], None] | None = None
    is_quick: bool = False


def counters(lab: TwoHomes) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in ("a", "b"):
        for counter, count in lab.daemons[name].status()["counters"].items():
            found[counter] = found.get(counter, 0) + int(count)
    return found


def play_bloat(lab: TwoHomes) -> Survival:
    """Bulk of a's own fills its uplink for ``BLOATED``; small messages are sent beside it and awaited.

    Raises Failed if the link does not stay, the bulk does not fill the uplink, or a message takes long.
    """
    a, b = lab.rebuild("mesh STUN", "port_restricted", "port_restricted")
    wait_for(lambda: peer(a, "b").get("path") and peer(b, "a").get("path"), "a and b are linked", 30)
    bloat(lab.homes["a"])
    before = counters(lab)
    bulk = Stream(a, b, interval=0.0)
    elapsed: list[float] = []
    try:
        end = time.monotonic() + BLOATED
        while time.monotonic() < end:
            began = time.monotonic()
            send(a, "b", "small")
            elapsed.append(time.monotonic() - began)
            time.sleep(0.2)
        arrived = bulk.size
    finally:
        bulk.kill()
        unbloat(lab.homes["a"])
    lost = {name: counters(lab).get(name, 0) - before.get(name, 0) for name in ("links_lost", "links_resumed")}
    if any(lost.values()):
        raise Failed(f"the link did not stay: {lost}")
    elapsed.sort()
    median, worst = elapsed[len(elapsed) // 2], elapsed[-1]
    rate = arrived * 8 / BLOATED / 1e6
    if rate < 0.7:
        raise Failed(f"bulk gets {rate:.2f} of 1 Mbit/s")
    extra = f"median {median * 1000:.0f} ms with {rate:.2f} Mbit/s of bulk for {BLOATED:.0f} s"
    if worst > MAX_DELAY:
        raise Failed(f"a small message took {worst:.1f} s; {extra}")
    return Survival(worst, "for the slowest small message", extra)


@contextmanager
def traffic(lab: TwoHomes) -> Iterator[Stream]:
    """A stream from a to b and messages both ways, all checked in the end."""
    a, b = lab.daemons["a"], lab.daemons["b"]
    messages, stream = Messages(a, b), Stream(a, b)
    try:
        time.sleep(CALM)
        yield stream
        stream.end()
        messages.end()
    except BaseException:
        stream.kill()
        messages._ending.set()
        raise


BLOAT_NAME = "uplink of `a` 1 Mbit/s with two seconds of buffer, filled by its own bulk"


def play(lab: TwoHomes, row: Row) -> Survival:
    """Raises Failed if anything is lost, or takes too long."""
    a, b = lab.rebuild("mesh STUN", *row.kinds)
    wait_for(lambda: peer(a, "b").get("path") and peer(b, "a").get("path"), "a and b are linked", 30)
    before = counters(lab)
    with traffic(lab) as stream:
        began = moment = time.monotonic()
        row.disturb(lab)
        if row.restore is not None:
            time.sleep(row.away)
            row.restore(lab)
            moment = time.monotonic()
        wait_for(lambda: stream.passes_since(moment + SETTLED), row.name, row.within + SETTLED, 0.05)
        time.sleep(CALM)
        seconds = stream.worst_delay(began, moment)
    gained = {name: count - before.get(name, 0) for name, count in counters(lab).items()}
    if gained.get("links_resumed"):
        how = "ICE restart"
    elif gained.get("links_path_moved"):
        how = "checks"
    else:
        how = "same path"
    return Survival(seconds, how)


# -- what can happen --------------------------------------------------------------------------------------------------


def reboot(home: LabHome) -> None:
    """The router knows nothing any more, and gives other ports than before."""
    rules = run(*home.inside(home.router), "nft", "list", "ruleset")
    port = next(_ports)
    before = 'oifname "wan" meta nfproto ipv4 masquerade'
    assert before in rules, rules
    lines = []
    for line in rules.splitlines():
        if before in line:
            line = f'oifname "wan" meta nfproto ipv4 meta l4proto udp masquerade to :{port}\n{before}'
        lines.append(line)
    run(*home.inside(home.router), "nft", "-f", "-", text="flush ruleset\n" + "\n".join(lines) + "\n")
    run(*home.inside(home.router), sys.executable, str(Path(__file__).with_name("forget_flows.py")))


def pull(name: str) -> Callable[[TwoHomes], None]:
    return lambda lab: _cable(lab, name, "down")


def plug_in(name: str) -> Callable[[TwoHomes], None]:
    return lambda lab: _cable(lab, name, "up")


def _cable(lab: TwoHomes, name: str, state: str) -> None:
    """Between the home's router and the internet."""
    run("ip", "-n", lab.switch, "link", "set", f"to-home{lab.homes[name].number}", state)


def readdress(home: LabHome) -> None:
    """Another address, as after a change of network."""
    old = f"{HOST}/24"
    run("ip", "-n", home.host, "addr", "add", f"{INSIDE}.{40 + home.number}/24", "dev", "eth0")
    run("ip", "-n", home.host, "addr", "del", old, "dev", "eth0")
    run("ip", "-n", home.host, "addr", "flush", "to", old, "dev", "eth0")
    run("ip", "-n", home.host, "addr", "replace", f"{INSIDE}.{40 + home.number}/24", "dev", "eth0")
    run("ip", "-n", home.host, "route", "replace", "default", "via", LAN_ROUTER)


def bloat(home: LabHome) -> None:
    """An uplink of 1 Mbit/s whose router holds two seconds of packets."""
    shape = ("tbf", "rate", "1mbit", "burst", "10kb", "limit", "256kb")
    run("tc", "-n", home.router, "qdisc", "replace", "dev", "wan", "root", *shape)


def unbloat(home: LabHome) -> None:
    run("tc", "-n", home.router, "qdisc", "del", "dev", "wan", "root")


def on(name: str, action: Callable[[LabHome], None]) -> Callable[[TwoHomes], None]:
    return lambda lab: action(lab.homes[name])


ROWS = (
    Row("router of `a` reboots, new mapping; `b` behind a port-restricted router", on("a", reboot), 15.0),
    Row("router of `b` reboots, new mapping; `a` behind a port-restricted router", on("b", reboot), 15.0),
    Row("router of `a` reboots; `b` public", on("a", reboot), 8.0, ("port_restricted", "none"), is_quick=True),
    Row("router of `b` reboots; `a` public", on("b", reboot), 8.0, ("none", "port_restricted")),
    Row("cable of `a` pulled for 5 s", pull("a"), 5.0, away=5.0, restore=plug_in("a"), is_quick=True),
    Row("cable of `a` pulled for 15 s", pull("a"), 10.0, away=15.0, restore=plug_in("a")),
    Row("cable of `b` pulled for 40 s", pull("b"), 15.0, away=40.0, restore=plug_in("b")),
    Row("`a` gets another address", on("a", readdress), 10.0, is_quick=True),
    Row("`b` gets another address", on("b", readdress), 10.0),
    Row("`a` gets another address; `b` public", on("a", readdress), 8.0, ("port_restricted", "none")),
)
