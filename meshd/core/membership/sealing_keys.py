"""The keys that envelopes to this node are sealed with: the current one, and former ones as long as something sealed
to them may still come.

A new one is announced by a new record, once it is durable. Who has not heard of it seals with the one before; what it
was, nobody can say any more once it is erased: that is what makes old recordings worthless to a thief of this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from meshd.core.commands import Put
from meshd.core.context import Context
from meshd.core.facts import SealingKeyReady
from meshd.core.state import SealingKeyRow, Stored, rows
from meshd.errors import Code
from meshd.ids import RequestId, Ticket
from meshd.wire.codec import encode

# Policy
FORMER_KEY_RETENTION = 15 * 86400.0  # seconds: a capability is promised to serve for 14 days; one more for clocks
MAX_FORMER_KEYS = 8  # each is tried on what the current one does not open: 60 µs that a stranger can cost us
FIRST_LOOK_DELAY = 600.0  # seconds after a start: what has waited for us while we were away is opened before
LOOK_INTERVAL = 6 * 3600.0  # seconds; a machine that sleeps does not count its timers on
MAX_SPREAD = 0.1  # of the lifetime: keys made on one day are not all renewed on one other day
SEED_SIZE = 32


@dataclass(slots=True)
class _Rotation:
    """A key that is being written."""

    ticket: Ticket
    cause: str
    request: RequestId | None
    answer: dict[str, Any]  # what the request is told besides
    rows: dict[bytes, SealingKeyRow] = field(repr=False)


class SealingKeys:
    """Draws, keeps, and erases them, and tells the suite which ones open."""

    __slots__ = ("_ctx", "_rotation", "_rows")

    def __init__(self, ctx: Context, stored: Stored) -> None:
        self._ctx = ctx
        self._rotation: _Rotation | None = None
        seed = ctx.suite.first_sealing_seed
        first = {ctx.suite.sealing_key_of(seed): SealingKeyRow(seed, 0)}
        self._rows = rows(stored, "sealing_keys", SealingKeyRow) or first
        self._use()

    def _use(self) -> None:
        """The newest first: what comes is most likely sealed to that one."""
        newest = sorted(self._rows.items(), key=lambda item: (not item[1].retired, item[1].retired, item[1].made))
        self._rows = dict(reversed(newest))
        self._ctx.suite.use_sealing_seeds(tuple(row.seed for row in self._rows.values()))

    @property
    def _current(self) -> tuple[bytes, SealingKeyRow]:
        return next(iter(self._rows.items()))

    def begin(self) -> None:
        """The daemon has started."""
        self._ctx.timers.set_at_latest(("sealing", b""), self._ctx.now.mono + FIRST_LOOK_DELAY)

    # -- a new one ----------------------------------------------------------------------------------------------------

    def ask(self, request: RequestId, renew_push: Callable[[], int]) -> None:
        """Somebody wants a new one. ``renew_push`` is called if it can be had, and gives how many are told."""
        if self._rotation is not None:
            self._ctx.refuse(request, Code.BUSY, "A new sealing key is just being written.")
        elif len(self._rows) > MAX_FORMER_KEYS:
            self._ctx.refuse(
                request,
                Code.REFUSED,
                f"The sealing key was renewed {MAX_FORMER_KEYS} times within {FORMER_KEY_RETENTION / 86400:.0f} days, "
                "and members that are away may still use any of those.",
            )
        else:
            self._rotate("asked", request, {"push_holders": renew_push()})

    def _rotate(self, cause: str, request: RequestId | None = None, answer: dict[str, Any] | None = None) -> None:
        now = int(self._ctx.now.unix)
        seed = self._ctx.rng.randbytes(SEED_SIZE)
        public, row = self._current
        changed = {self._ctx.suite.sealing_key_of(seed): SealingKeyRow(seed, now), public: replace(row, retired=now)}
        changes = [Put("sealing_keys", key, encode(row)) for key, row in changed.items()]
        ticket = self._ctx.persist(*changes, request=request)
        self._rotation = _Rotation(ticket, cause, request, answer or {}, changed)
        self._ctx.state_after(ticket, SealingKeyReady())

    def on_ready(self) -> bool:
        """The new one would survive a power cut: use it from now on. Whether there was one."""
        rotation, self._rotation = self._rotation, None
        if rotation is None:
            return False
        self._rows.update(rotation.rows)
        self._use()
        self._ctx.count("sealing_keys_renewed")
        self._ctx.notify("sealing_key_renewed", cause=rotation.cause)
        if rotation.request is not None:
            self._ctx.respond(rotation.request, **self.view(), **rotation.answer)
        return True

    def on_not_durable(self, ticket: Ticket) -> bool:
        """It could not be written, and whoever asked has been told. Whether it was one of ours."""
        ours = self._rotation is not None and self._rotation.ticket == ticket
        if ours:
            self._rotation = None
        return ours

    def on_timer(self) -> None:
        """Is it time for a new one? What has been kept for long enough is erased."""
        self._ctx.timer("sealing", b"", LOOK_INTERVAL)
        now = self._ctx.now.unix
        public, row = self._current
        old = [key for key, row in self._rows.items() if row.retired and row.retired + FORMER_KEY_RETENTION <= now]
        for key in old:
            del self._rows[key]
            self._ctx.delete("sealing_keys", key)
        if old:
            self._use()
        if not row.made or row.made > now:  # the first time, or the clock was set back: it counts from now
            self._rows[public] = replace(row, made=int(now))
            self._ctx.persist(Put("sealing_keys", public, encode(self._rows[public])))
        elif self._is_due(now - row.made) and self._rotation is None and len(self._rows) <= MAX_FORMER_KEYS:
            self._rotate("scheduled")

    def _is_due(self, age: float) -> bool:
        lifetime = self._ctx.config.mesh.sealing_key_lifetime
        return lifetime > 0 and age >= lifetime * (1.0 - MAX_SPREAD * self._ctx.own_id[0] / 256)

    # -- seen from outside --------------------------------------------------------------------------------------------

    def view(self) -> dict[str, Any]:
        """``sealing_key`` and ``former_sealing_keys`` of ``keys.show``."""
        (public, row), *former = self._rows.items()
        return {
            "sealing_key": {"key": public, "made_at": float(row.made) if row.made else None},
            "former_sealing_keys": [
                {"key": key, "retired_at": float(row.retired), "erased_at": row.retired + FORMER_KEY_RETENTION}
                for key, row in former
            ],
        }
