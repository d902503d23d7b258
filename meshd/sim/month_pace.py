"""What a node does every minute, done every ten: so that a month of fifty of them takes minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from meshd.core.delivery import outbox, replay
from meshd.core.overlay import reconciliation, topology

# Policy
SLOWER = 10
ROUTINE = (
    (outbox, "SWEEP_INTERVAL"),
    (replay, "SWEEP_INTERVAL"),
    (reconciliation, "COMPARE_INTERVAL"),
    (topology, "MAX_RETRY_DELAY"),
)


@contextmanager
def unhurried() -> Iterator[None]:
    """Meanwhile, in this process, all nodes take their time with ``ROUTINE``."""
    usual = [getattr(module, name) for module, name in ROUTINE]
    for (module, name), interval in zip(ROUTINE, usual, strict=True):
        setattr(module, name, interval * SLOWER)
    try:
        yield
    finally:
        for (module, name), interval in zip(ROUTINE, usual, strict=True):
            setattr(module, name, interval)
