"""Connectivity checks (RFC 8445 section 6.1.2, 7) with an end in sight, and relays as the last thing to try.

Upstream (aioice 0.13) sends each check seven times, over 63 s, before a pair counts as failed, and takes whatever pair
answers first: with a relay at hand that is often the relay, since a router in between lets no first packet in.
"""

from __future__ import annotations

import asyncio

from aioice import Candidate, Connection
from aioice import ice as aioice_ice

from meshd.links.turn import RelaySocket

# Policy
CHECK_RETRANSMISSIONS = 3  # 0.5 + 1 + 2 + 4 s: a pair that has not answered after 7.5 s does not count on it any more
MAX_CHECKED_PAIRS = 100  # RFC 8445 section 6.1.2.5's own number; 20 ms apart the last one starts after 2 s
KNOCK_INTERVAL = 15.0  # seconds; a NAT router forgets after 30 (RFC 4787 says 120) that we wanted somebody to answer
RELAY_DELAY = 1.2  # seconds that direct pairs get: their first check may be lost, and the second comes after 0.5 s


class Checks(Connection):
    """aioice's connection, whose checks end within 10 s on the controlling side.

    The controlled side does not give up by itself: the answer that it has sent may take its time to arrive (by push,
    or pasted), and the first check comes after that.
    """

    _began: float | None = None

    def _pair_remote_candidate(self, remote_candidate: Candidate) -> None:
        super()._pair_remote_candidate(remote_candidate)
        if len(self._check_list) > MAX_CHECKED_PAIRS:
            self.sort_check_list()
            del self._check_list[MAX_CHECKED_PAIRS:]

    def _check_periodic(self) -> bool:
        """Hold pairs with a relay back while others are under way."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
            for pair in self._check_list:
                shared = getattr(pair.protocol, "shared", None)
                if isinstance(shared, RelaySocket):
                    shared.permit(pair.remote_addr)
        if self._check_list_done or now - self._began >= RELAY_DELAY:
            return super()._check_periodic()
        open_states = (aioice_ice.CandidatePair.State.WAITING, aioice_ice.CandidatePair.State.FROZEN)
        direct = [pair for pair in self._check_list if not is_relayed(pair)]
        if not direct:
            return super()._check_periodic()
        for state in open_states:
            for pair in direct:
                if pair.state == state:
                    self.check_start_task(pair)
                    return True
        relayed = any(pair.state in open_states for pair in self._check_list if is_relayed(pair))
        return relayed or self._remote_candidates_expected()  # ask again in a moment

    def knock_again(self) -> None:
        """The peer may still come: try anew, so that the routers on our side go on letting it in."""
        if not self.ice_controlling:
            for pair in self._check_list:
                if pair.state == aioice_ice.CandidatePair.State.FAILED:
                    self.check_state(pair, aioice_ice.CandidatePair.State.WAITING)

    def _check_list_maybe_fail(self) -> None:
        """Fail when all checks have, on the controlling side. Upstream fails with nothing to check, too.

        A browser that hides its addresses names none that we could check, and will check ours.
        """
        if self.ice_controlling and self._check_list:
            super()._check_list_maybe_fail()

    def _prune_components(self) -> None:
        """Keep the one component there is: upstream gives it up when the description names nothing to check."""


def is_relayed(pair: aioice_ice.CandidatePair) -> bool:
    """Whether a TURN server carries what goes over that pair."""
    return pair.local_candidate.type == "relay" or pair.remote_candidate.type == "relay"
