"""One pair of homes: what becomes of the link between them, and how soon that is known."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from two_homes import KINDS, TwoHomes

from demo.processes import Daemon, Failed, wait_for

PATIENCE = 25.0  # seconds for a verdict: a hopeless pair is known in 10, after it has begun
PAIRS = [(b, a) for a, b in itertools.combinations_with_replacement(KINDS, 2)]  # the stricter router first


@dataclass(frozen=True)
class Outcome:
    """``how``: direct, relay candidate, or over member. ``seconds`` until it stood, or was known not to."""

    how: str
    seconds: float
    kinds: str = ""
    why: str = ""

    def __str__(self) -> str:
        return self.how if self.how != "direct" else f"direct ({self.kinds})"


def peer(daemon: Daemon, name: str) -> dict[str, Any]:
    return next((p for p in daemon.call("peers.list")["peers"] if p["name"] == name), {})


def outcome_of(lab: TwoHomes, column: str, kind_a: str, kind_b: str) -> Outcome:
    """Play that pair. Raises Failed if there is no verdict in time, or no path at all."""
    a, b = lab.rebuild(column, kind_a, kind_b)
    began = time.monotonic()

    def verdict() -> Outcome | None:
        seen, seen_by_b = peer(a, "b"), peer(b, "a")
        seconds = time.monotonic() - began
        path = seen.get("path")
        if path is not None and seen_by_b.get("path") is not None:
            kinds = sorted((path["kind"], path["remote_kind"]))
            how = "relay candidate" if "relay" in kinds else "direct"
            return Outcome(how, seconds, "-".join(kinds))
        for side in (seen, seen_by_b):
            if side.get("last_error") == "ice_failed" and side.get("via") == ["member"]:
                return Outcome("over a member", seconds, why=side["last_error_detail"])
        return None

    result = wait_for(verdict, f"{kind_a} and {kind_b} with {column}", PATIENCE, 0.1)
    if result.how == "over a member" and a.call("peers.ping", peer="b")["via"] != ["member"]:
        raise Failed("what cannot connect is not reached over the member")
    return result
