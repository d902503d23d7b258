"""Paths between two hosts, each with a rate, a delay, losses and a queue: ``bench/emulator`` at work. Needs root."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Side = Literal["a", "b"]
Direction = Literal["there", "back", "both"]

# Specification
ADDRESSES: dict[Side, str] = {"a": "10.9.0.1", "b": "10.9.0.2"}  # emulator.c

# Policy
EMULATOR = Path(__file__).parent.parent / "build" / "emulator"  # `make build/emulator`


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a path does to packets, the same in both directions.

    ``rate`` in bit/s (0: as fast as the emulator), ``round_trip`` in seconds without any queue, ``loss`` the share of
    packets lost each way, ``queue`` in bytes (0: without limit).
    """

    rate: float = 0.0
    round_trip: float = 0.0
    loss: float = 0.0
    queue: int = 0
    jitter: float = 0.0

    @property
    def bdp(self) -> int:
        """Bytes that are on their way when the path is full and its queue empty."""
        return int(self.rate / 8 * self.round_trip)

    def settings(self) -> dict[str, float]:
        """In the emulator's words."""
        return {
            "rate": self.rate,
            "delay": self.round_trip / 2,
            "jitter": self.jitter,
            "loss": self.loss,
            "queue": self.queue or 2**40,
        }


class NoPath(Exception):
    """The emulator could not be started; the text says why."""


class EmulatedPath:
    """A running emulator. Commands of a host are started behind ``at(side)``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        hello = self._answer()
        self._namespaces = {side: f"/proc/{hello['pid']}/fd/{hello[side]}" for side in ADDRESSES}

    def at(self, side: Side) -> tuple[str, ...]:
        """What to put before a command so that it runs on that host."""
        return ("nsenter", f"--net={self._namespaces[side]}")

    def set(self, direction: Direction, /, **settings: float) -> None:
        """Change the path while it runs. The keys are the emulator's: rate, delay, jitter, loss, queue, down."""
        self._ask(f"{direction} " + " ".join(f"{key} {value:.9f}" for key, value in settings.items()))

    def statistics(self) -> dict[str, dict[str, int]]:
        """What has happened ``there`` (a to b) and ``back`` since this was asked last."""
        statistics: dict[str, dict[str, int]] = self._ask("stat")
        return statistics

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise ValueError(f"the emulator refused {command!r}: {answer['error']}")
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NoPath("the emulator ended: " + self._process.communicate()[1].strip())
        return json.loads(line)


def why_not() -> str | None:
    """Why there can be no path here; None if there can."""
    if os.geteuid() != 0:
        return "needs root"
    return None if EMULATOR.exists() else "no build/emulator: run `make build/emulator`"


@contextmanager
def host() -> Iterator[EmulatedPath | None]:
    """A host of its own for two processes that talk over loopback; without root, this one (None).

    libwebrtc and libdatachannel want an address that is not loopback's, even to talk to themselves.
    """
    if why_not():
        yield None
    else:
        with path(Conditions()) as emulated:
            yield emulated


@contextmanager
def path(conditions: Conditions, seed: int = 1) -> Iterator[EmulatedPath]:
    """A path with these conditions, whose losses are those of ``seed``.

    However this process ends, nothing is left: the emulator ends with its standard input, and the namespaces, which
    have no name, end with it and the last process inside. Raises NoPath without root.
    """
    if (reason := why_not()) is not None:
        raise NoPath(reason)
    process = subprocess.Popen(
        [str(EMULATOR), str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the bench, which then leaves this context
    )
    try:
        emulated = EmulatedPath(process)
        emulated.set("both", **conditions.settings())
        yield emulated
    finally:
        process.kill()
        process.communicate()
