"""Two processes of a contestant, one on each side of a path or both on loopback, and what they deliver."""

from __future__ import annotations

import bisect
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.paths import ADDRESSES, EmulatedPath, Side

# Policy
OPEN_TIMEOUT = 20.0  # seconds: aiortc asks a lost INIT again after three
ANSWER_TIMEOUT = 10.0
SIDES: tuple[Side, Side] = ("a", "b")
ROOT = Path(__file__).parent.parent
LOOPBACK = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")


class PairFailed(Exception):
    """A contestant did not connect, ended, or said nothing in time; the text says which."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program that both ends run, followed by ``a`` or ``b``, its address, and ``options``.

    ``missing`` says why it cannot run here; empty if it can.
    """

    name: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one end has got: ``samples`` of (monotonic seconds, bytes in all), and messages that were wrong.

    ``cpu`` is the CPU time of each side for all of it, in seconds.
    """

    samples: list[tuple[float, int]]
    wrong: int
    began: float
    ended: float
    cpu: dict[Side, float]

    def size_at(self, when: float) -> float:
        """Bytes in all by that time, between two samples in proportion."""
        times = [at for at, _ in self.samples]
        index = bisect.bisect_left(times, when)
        if index == len(times):
            return float(self.samples[-1][1])
        at, size = self.samples[index]
        before, size_before = self.samples[index - 1] if index else (self.began, 0)
        return size_before + (size - size_before) * max(0.0, when - before) / max(at - before, 1e-9)

    def rate(self, begin: float | None = None, end: float | None = None) -> float:
        """Bytes per second between two times; all of it by default."""
        begin, end = begin or self.began, end or self.ended
        return (self.size_at(end) - self.size_at(begin)) / (end - begin)

    @property
    def cpu_for_each_gb(self) -> float:
        """CPU seconds of both ends for 10^9 bytes."""
        return sum(self.cpu.values()) / max(self.samples[-1][1] / 1e9, 1e-9)


class Pair:
    """Both processes of a contestant, connected; killed at the end of the context."""

    def __init__(self, contestant: Contestant, path: EmulatedPath | None = None, *, local: Side | None = None) -> None:
        """On both sides of ``path``; or, with ``local``, both on that one; without a path both here, on loopback."""
        self.name = contestant.name
        self.open_time = 0.0
        self._said: dict[Side, dict[str, Any]] = {"a": {}, "b": {}}
        self._buffers: dict[Side, bytes] = {"a": b"", "b": b""}
        self._selector = selectors.DefaultSelector()
        self._processes: dict[Side, subprocess.Popen[bytes]] = {}
        for side in SIDES:
            address = LOOPBACK if path is None or local else ADDRESSES[side]
            command = (*contestant.command, side, address, *contestant.options)
            process = subprocess.Popen(
                (*path.at(local or side), *command) if path else command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("BENCH_STDERR") else subprocess.DEVNULL,
                start_new_session=True,
                cwd=ROOT,
            )
            self._processes[side] = process
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, side)

    def __enter__(self) -> Pair:
        try:
            self.open_time = max(float(self.expect(side, "open", OPEN_TIMEOUT)) for side in ("b", "a"))
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self._selector.close()

    def pid(self, side: Side) -> int:
        """Of that side's process."""
        return self._processes[side].pid

    def do(self, side: Side, what: str, **rest: Any) -> None:
        """Tell one side what to do; ``bench/contestants/work.py`` lists it."""
        self._write(side, {"do": what, **rest})

    def _write(self, side: Side, line: dict[str, Any]) -> None:
        stdin = self._processes[side].stdin
        assert stdin is not None
        stdin.write(json.dumps(line).encode() + b"\n")
        stdin.flush()

    def cpu(self) -> dict[Side, float]:
        """CPU seconds that each side has used."""
        used: dict[Side, float] = {}
        for side in SIDES:
            with open(f"/proc/{self.pid(side)}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
            used[side] = (int(fields[11]) + int(fields[12])) / TICKS
        return used

    def expect(self, side: Side, key: str, timeout: float = ANSWER_TIMEOUT) -> Any:
        """What that side says under ``key``, now or later; descriptions are handed over meanwhile."""
        deadline = time.monotonic() + timeout
        while key not in self._said[side]:
            self.attend(min(deadline - time.monotonic(), 1.0))
            if time.monotonic() > deadline:
                raise PairFailed(f"{self.name}: no {key!r} from {side} within {timeout:g} s")
        return self._said[side].pop(key)

    def attend(self, seconds: float) -> None:
        """Read what the two say for at most that long, and hand over descriptions."""
        for ready, _ in self._selector.select(max(seconds, 0.0)):
            side: Side = ready.data
            data = os.read(ready.fd, 1 << 16)
            if not data:
                raise PairFailed(f"{self.name}: {side} ended with status {self._processes[side].wait()}")
            *lines, self._buffers[side] = (self._buffers[side] + data).split(b"\n")
            for said in map(json.loads, lines):
                if "failed" in said:
                    raise PairFailed(f"{self.name}: {side}: {said['failed']}")
                if "describe" in said:
                    self._write("b" if side == "a" else "a", said)
                self._said[side].update(said)

    def watch(self, seconds: float) -> None:
        """Let it run for that long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.attend(left)

    def transfer(self, seconds: float) -> Transfer:
        """Bulk from a to b for that long."""
        return self.finish(self.begin(), seconds)

    def begin(self) -> tuple[float, dict[Side, float]]:
        """Start the bulk; several pairs may be begun before the first is finished."""
        started = time.monotonic(), self.cpu()
        self.do("a", "bulk")
        return started

    def finish(self, started: tuple[float, dict[Side, float]], seconds: float) -> Transfer:
        """Wait until ``seconds`` after the start, and ask what has come."""
        began, before = started
        self.watch(began + seconds - time.monotonic())
        after = self.cpu()
        self.do("b", "report")
        delivered = self.expect("b", "delivered")
        wrong = int(self.expect("b", "wrong"))
        samples = [(float(at), int(size)) for at, size in delivered]
        cpu = {side: after[side] - before[side] for side in SIDES}
        return Transfer(samples, wrong, began, samples[-1][0], cpu)

    def round_trips(self, count: int, interval: float = 0.0, timeout: float = 30.0) -> list[float]:
        """Seconds that each of ``count`` messages of 100 bytes took there and back; ``interval`` 0: one by one."""
        self.do("a", "ping", count=count, interval=interval)
        return [float(seconds) for seconds in self.expect("a", "round_trips", timeout)]
