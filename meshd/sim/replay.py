"""A recording of a real daemon, fed to a node: the same events, the same randomness; are the commands the same?

What real cryptography draws by itself (ephemeral keys, nonces) is in the recording, too, as what came of it. So the
replay of unchanged code is exact to the byte. Changed code may ask for other things in another order: from then on
draws are fresh, commands are compared by their names and sizes, and the first difference is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from meshd.core.node import Node
from meshd.crypto.suite import RealSuite
from meshd.recording import Draw, Entry, read, shape
from meshd.sim.inspection import told

# Policy
MAX_TOLD = 5  # differences shown


class Draws:
    """What was drawn while the present event was handled. ``missed`` counts draws that the recording does not have."""

    def __init__(self) -> None:
        self._left: deque[Draw] = deque()
        self.missed = 0

    def load(self, drawn: tuple[Draw, ...]) -> None:
        """Those of the next event."""
        self.missed += len(self._left)
        self._left = deque(drawn)

    def take(self, kind: type, fits: Callable[[Draw], bool]) -> Draw | None:
        """The next one, if it is of that kind and fits; None: draw afresh."""
        if self._left and type(self._left[0]) is kind and fits(self._left[0]):
            return self._left.popleft()
        self.missed += 1
        return None


class ReplayedDice(Random):
    """Gives what was drawn."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        super().__init__(0)

    def random(self) -> float:
        """See ``random.Random``."""
        drawn = self._draws.take(float, lambda _: True)
        return super().random() if drawn is None else float(drawn)

    def getrandbits(self, k: int, /) -> int:
        """See ``random.Random``."""
        drawn = self._draws.take(int, lambda value: int(value).bit_length() <= k)
        return super().getrandbits(k) if drawn is None else int(drawn)

    def randbytes(self, n: int) -> bytes:
        """See ``random.Random``."""
        drawn = self._draws.take(bytes, lambda value: len(value) == n)  # type: ignore[arg-type]
        return super().getrandbits(8 * n).to_bytes(n, "big") if drawn is None else bytes(drawn)  # type: ignore[arg-type]


class ReplayedSuite(RealSuite):
    """The real keys; what was sealed or signed with fresh randomness comes from the recording."""

    def __init__(self, identity_seed: bytes, sealing_seed: bytes, draws: Draws) -> None:
        super().__init__(identity_seed, sealing_seed)
        self._draws = draws

    def _made(self, make: Callable[[], bytes]) -> bytes:
        drawn = self._draws.take(bytes, lambda _: True)
        return make() if drawn is None else bytes(drawn)  # type: ignore[arg-type]

    def seal(self, recipient: bytes, info: bytes, plaintext: bytes) -> bytes:
        """See ``Suite``."""
        make = super().seal
        return self._made(lambda: make(recipient, info, plaintext))

    def issue_capability(self, seed: bytes, audience: str, exp: int, subject: str) -> bytes:
        """See ``Suite``."""
        make = super().issue_capability
        return self._made(lambda: make(seed, audience, exp, subject))

    def encrypt_push(self, p256dh: bytes, auth: bytes, plaintext: bytes, max_body: int = 4096) -> bytes:
        """See ``Suite``."""
        make = super().encrypt_push
        return self._made(lambda: make(p256dh, auth, plaintext, max_body))


@dataclass(slots=True)
class Outcome:
    """``exact``: events whose commands are the same bytes; ``alike``: the same names and sizes; ``different``: not."""

    events: int = 0
    exact: int = 0
    alike: int = 0
    different: int = 0
    missed: int = 0


class Replay:
    """One recording, played event by event."""

    def __init__(self, path: Path) -> None:
        header, self._entries = read(path)
        self._draws = Draws()
        self._draws.load(header.drawn)
        suite = ReplayedSuite(header.identity_seed, header.sealing_seed, self._draws)
        self.node = Node(header.config, suite, ReplayedDice(self._draws), header.stored)
        self.outcome = Outcome()
        self.now = 0.0

    def play(self, until: float | None = None) -> Iterator[str]:
        """All of it, or up to so many seconds after its first event.

        Gives a few lines for each of the first events whose commands differ. Raises MalformedMessage.
        """
        first: float | None = None
        for entry in self._entries:
            first = entry.now.mono if first is None else first
            if until is not None and entry.now.mono > first + until:
                break
            self._draws.load(entry.drawn)
            commands = self.node.handle(entry.event, entry.now)
            self.now = entry.now.mono
            shapes = tuple(shape(command) for command in commands)
            self.outcome.events += 1
            if shapes == entry.commands:
                self.outcome.exact += 1
            elif [known[:2] for known in shapes] == [known[:2] for known in entry.commands]:
                self.outcome.alike += 1
            else:
                self.outcome.different += 1
                if self.outcome.different <= MAX_TOLD:
                    yield f"event {self.outcome.events} at {self.now:.4f} s, {told(entry.event)}:"
                    yield from _differences(entry, shapes)
        self._draws.load(())
        self.outcome.missed = self._draws.missed

    def summary(self) -> str:
        """A line."""
        came = self.outcome
        return (
            f"{came.events} events: {came.exact} gave the same bytes, {came.alike} the same names and sizes, "
            f"{came.different} something else; {came.missed} draws differed"
        )


def _differences(entry: Entry, shapes: tuple[tuple[str, int, bytes], ...]) -> Iterator[str]:
    recorded = [f"{name} ({size} bytes)" for name, size, _ in entry.commands]
    given = [f"{name} ({size} bytes)" for name, size, _ in shapes]
    yield f"    recorded: {', '.join(recorded) or 'nothing'}"
    yield f"    now:      {', '.join(given) or 'nothing'}"
