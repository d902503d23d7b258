"""Whether the peer at the other end of one link lives. Pure arithmetic on what is heard and what is asked.

==========  ========================================================================================================
``QUIET``   Nothing is owed to us. After ``Pace.interval`` of silence a heartbeat goes out: ``ASKED``.
``ASKED``   Its answer is due within the retransmission timeout (RFC 6298). Without one: ``PROBING``.
``PROBING``  Heartbeats go out quickly, so spaced that up to ``PROBES`` of them could still be answered in time. When
            the silence has lasted ``patience``, the peer is given up: ``SILENT``.
``SILENT``  It is asked at leisure, for it may come back.
==========  ========================================================================================================

Anything that is heard leads back to ``QUIET``, whoever it answers. Each heartbeat goes once and may be lost; each has
a number of its own, so a late answer measures the path it took and not the one after it (Karn's problem does not come
up). ``docs/liveness.md`` has what this amounts to: how soon a death is noticed, how often a living peer is blamed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

# Specification (RFC 6298 section 2)
_SRTT_GAIN = 1 / 8
_RTTVAR_GAIN = 1 / 4
_RTTVAR_FACTOR = 4

# Policy
FIRST_RTO = 3.0  # seconds until the first answer has come: nothing is known, so be patient (RFC 2988's value)
MIN_RTO_MARGIN = 0.1  # seconds above the smoothed round trip: two turns of a busy event loop
MAX_RTO = 10.0  # seconds; slower paths are left to the consent of ICE (30 s)
PROBES = 16  # quick ones, where time allows: also at 30 % loss each way one of them comes through
MIN_PROBES = 8  # there is always time for these; at 5 % loss nine lost exchanges in a row are 1 in 10^9
MIN_PROBE_INTERVAL = 0.1  # seconds
POLITE_FACTOR = 1.2  # the larger id lets the smaller ask first, so that an idle link carries one exchange, not two
COALESCING = 0.5  # seconds a heartbeat may go early, so that all links are looked after in one waking
RTT_INTERVAL = 10.0  # seconds; also a link that is never idle is measured now and then
RESTART_LATENESS = 1.0  # seconds that we were held up, after which the asking begins anew
MAX_OUTSTANDING = 32  # heartbeats whose answers would still be recognised
LOSS_MEMORY = 128  # heartbeats after which older ones count half


class PulseState(Enum):
    """See the module."""

    QUIET = "quiet"
    ASKED = "asked"
    PROBING = "probing"
    SILENT = "silent"


class Step(Enum):
    """What is to be done about a link now."""

    REST = "rest"
    ASK = "ask"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Pace:
    """``interval``: silence until we ask; ``timeout``: until we give up, on paths that are not too slow (seconds)."""

    interval: float
    timeout: float


@dataclass(slots=True)
class Pulse:
    """All times are monotonic seconds. ``heard``: when anything last came."""

    heard: float = 0.0
    polite: bool = False
    state: PulseState = PulseState.QUIET
    srtt: float | None = None  # smoothed round trip, seconds
    rttvar: float = 0.0
    number: int = 0  # of the last heartbeat
    asked: float = -RTT_INTERVAL  # when that went
    _probe_interval: float = 0.0
    _sent: dict[int, float] = field(default_factory=dict)  # heartbeats without an answer: when each went
    _tried: float = 0.0  # how many went lately, and how many were answered
    _answered: float = 0.0

    # -- reading ------------------------------------------------------------------------------------------------------

    def rto(self) -> float:
        """How long an answer may take (seconds)."""
        if self.srtt is None:
            return FIRST_RTO
        return min(self.srtt + max(MIN_RTO_MARGIN, _RTTVAR_FACTOR * self.rttvar), MAX_RTO)

    def patience(self, pace: Pace) -> float:
        """The silence after which the peer is given up: as configured, or longer where the path is slow."""
        return max(pace.timeout, self._wait(pace) + 2 * self.rto() + MIN_PROBES * MIN_PROBE_INTERVAL)

    def loss(self, now: float) -> float | None:
        """The share of the last hundred or so heartbeats that were not answered; None: none was due yet."""
        rto = self.rto()
        due = self._tried - sum(1 for sent in self._sent.values() if now - sent < rto)
        return None if due < 1 else max(0.0, 1 - self._answered / due)

    def next_look(self, pace: Pace) -> float:
        """When something is to be done if nothing is heard until then."""
        match self.state:
            case PulseState.QUIET:
                return min(self.heard + self._wait(pace), self.asked + self._measured(pace))
            case PulseState.ASKED:
                return self.asked + self.rto()
            case PulseState.PROBING:
                return min(self.asked + self._probe_interval, self.heard + self.patience(pace))
            case PulseState.SILENT:
                return self.asked + self._wait(pace)

    def _wait(self, pace: Pace) -> float:
        return pace.interval * POLITE_FACTOR if self.polite else pace.interval

    @staticmethod
    def _measured(pace: Pace) -> float:
        """How long a measurement of the path stands; who wants to be asked rarely is not asked for that either."""
        return max(RTT_INTERVAL, pace.interval)

    # -- what happens -------------------------------------------------------------------------------------------------

    def hear(self, now: float) -> None:
        """Something has come from the peer."""
        self.heard = now
        self.state = PulseState.QUIET

    def answer(self, number: int, now: float) -> None:
        """The answer to a heartbeat has come. Numbers that we did not send, or not lately, measure nothing."""
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        self._answered += 1
        sample = now - sent
        if self.srtt is None:
            self.srtt, self.rttvar = sample, sample / 2
        else:
            self.rttvar += _RTTVAR_GAIN * (abs(self.srtt - sample) - self.rttvar)
            self.srtt += _SRTT_GAIN * (sample - self.srtt)

    def look(self, now: float, pace: Pace) -> Step:
        """What is to be done now. ``ASK`` has taken note that heartbeat ``number`` goes out."""
        if self.state is PulseState.QUIET:
            soon = now + min(COALESCING, pace.interval / 4)
            if soon >= self.heard + self._wait(pace):
                self.state = PulseState.ASKED
            elif soon < self.asked + self._measured(pace):  # else: asked to be measured; no answer means nothing
                return Step.REST
        elif now < self.next_look(pace):
            return Step.REST
        elif self.state is PulseState.ASKED:
            self.state = PulseState.PROBING
            time_left = self.heard + self.patience(pace) - self.rto() - now
            self._probe_interval = max(MIN_PROBE_INTERVAL, time_left / PROBES)
        elif self.state is PulseState.PROBING and now - self.heard >= self.patience(pace):
            self.state = PulseState.SILENT
            return Step.GIVE_UP
        self.ask(now)
        return Step.ASK

    def ask(self, now: float) -> int:
        """A heartbeat goes out, with the number given."""
        self.number = (self.number + 1) & 0xFFFFFFFF
        self.asked = self._sent[self.number] = now
        if len(self._sent) > MAX_OUTSTANDING:
            del self._sent[next(iter(self._sent))]
        self._tried += 1
        if self._tried >= LOSS_MEMORY:
            self._tried, self._answered = self._tried / 2, self._answered / 2
        return self.number

    def give_back(self, lateness: float, now: float, pace: Pace) -> None:
        """We ourselves were held up for that long (seconds), and heard nobody: it does not count.

        After a long while whoever was being asked is asked anew; a loop that stutters still notices a death in the end.
        """
        self.heard = min(now, self.heard + lateness)
        self.asked = min(now, self.asked + lateness)
        state = self.state
        self._forget()
        if lateness < RESTART_LATENESS:
            self.state = state
        else:
            self.heard = max(self.heard, now - self._wait(pace))

    def spare(self) -> None:
        """It was to be given up, and is looked at once more first."""
        self.state = PulseState.PROBING

    def wake(self, now: float, pace: Pace) -> None:
        """The machine has slept, nobody knows how long: ask at once, and only then begin to count."""
        self.heard = now - self._wait(pace)
        self._forget()

    def _forget(self) -> None:
        """What is unanswered would measure us and not the path."""
        self.state = PulseState.QUIET
        self._tried = max(self._answered, self._tried - len(self._sent))
        self._sent.clear()
