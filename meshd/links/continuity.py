"""What keeps a link on its way once ICE has nominated a pair: consent, mobility, and where the peer was found since."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aioice import Candidate

from meshd.links import consent
from meshd.links.consent import Attributes, CheckKey, Consent
from meshd.links.demux import STUN_HEADER_SIZE, Address
from meshd.links.mobility import Mobility
from meshd.links.path import LinkPath
from meshd.links.sockets import LinkSockets

if TYPE_CHECKING:
    from meshd.links.ice import IceConnection

# Policy
MAX_LEARNT = 16  # addresses that the peer is believed to be at besides those it has named

_NONE = (0, b"")


class Continuity:
    """One connection's, from its nomination to its end. ``mobility.Moving`` says what some of this is for."""

    def __init__(self, connection: IceConnection, sockets: LinkSockets, counters: Counter[str]) -> None:
        assert connection.remote_password is not None
        self._connection = connection
        self._demux = sockets.demux
        self._counters = counters
        self._learnt: list[Address] = []  # where the peer was found after the beginning, the last one first
        ours, theirs = connection.local_username, connection.remote_username
        role = consent.ICE_CONTROLLING if connection.ice_controlling else consent.ICE_CONTROLLED
        key = CheckKey(
            username=f"{theirs}:{ours}",
            password=connection.remote_password,
            role=(role, connection._tie_breaker),
        )
        self._expected_username = f"{ours}:{theirs}".encode()
        self._password = connection.local_password.encode()
        self.mobility: Mobility[LinkPath] = Mobility(self, key, self._demux.awaiting, counters)
        self.consent = Consent(
            key,
            send=self._send,
            expired=self._expired,
            doubted=self.mobility.probe,
            regained=self._regained,
            outstanding=self._demux.awaiting,
            ticks=sockets.ticks,
        )

    def stop(self) -> None:
        """Ask no more."""
        self.consent.stop()
        self.mobility.stop()

    # -- what consent says ---------------------------------------------------------------------------------------------

    def _send(self, message: bytes) -> None:
        path, remote = self.in_use
        if not path.send(message, remote):
            self.mobility.probe()

    def _expired(self) -> None:
        self._connection.consent_expired = True
        self._connection.on_lost()

    def _regained(self) -> None:
        self._connection.on_path(False)

    # -- what mobility asks --------------------------------------------------------------------------------------------

    @property
    def in_use(self) -> tuple[LinkPath, Address]:
        """Where data goes."""
        return self._connection.in_use

    @property
    def is_controlling(self) -> bool:
        """Whether we nominate."""
        return self._connection.ice_controlling

    def paths(self) -> list[LinkPath]:
        """One for each local address and relay that there is now."""
        return self._connection.paths()

    def remotes(self) -> list[Address]:
        """Where the peer may be, the likeliest first."""
        return list(dict.fromkeys((self.in_use[1], *self._learnt, *self._connection.named_remotes())))

    def move(self, pair: tuple[LinkPath, Address]) -> None:
        """Send data there from now on."""
        path, remote = pair
        candidate = self._connection.known_remote(remote) or Candidate(
            foundation="learnt",
            component=1,
            transport="udp",
            priority=consent.PEER_REFLEXIVE_PRIORITY,
            host=remote[0],
            port=remote[1],
            type="prflx",
        )
        self._learn(self.in_use[1])  # so that its claim is released in its turn
        self._connection.select(path, candidate)
        self._learn(remote)
        self._counters["path_moved"] += 1
        self.consent.move()
        self._connection.on_path(True)

    def answered(self) -> None:
        """The pair in use works."""
        self.consent.refresh()
        self._connection.on_path(False)

    def on_unanswered(self, elapsed: float) -> None:
        """No pair has answered for that long (seconds)."""
        self._connection.on_unanswered(elapsed)

    # -- what the peer asks --------------------------------------------------------------------------------------------

    def receive_check(self, request: bytes, attributes: Attributes, source: Address, local_address: str) -> bool:
        """Answer a check. False: that is not what this is.

        Upstream's way takes a third of a millisecond, and ten of these come in every 5 s on every 10 links.
        """
        connection = self._connection
        ours, theirs = consent.ICE_CONTROLLED, consent.ICE_CONTROLLING
        if connection.ice_controlling:
            ours, theirs = theirs, ours
        if (
            ours in attributes
            or theirs not in attributes
            or attributes.get(consent.USERNAME, _NONE)[1] != self._expected_username
            or not consent.is_authentic(request, attributes, self._password)
        ):
            return False
        if connection.is_refused(source):
            return True
        path = connection.path_to(local_address)
        if path is None:
            return False
        transaction = request[8:STUN_HEADER_SIZE]
        mapped = consent.mapped_address(source, transaction)
        path.send(consent.sealed(consent.RESPONSE, transaction, mapped, self._password), source)
        pair = (path, source)
        if pair != self.in_use or self.mobility.is_searching or self.consent.is_paused:
            self.hear(pair, nominates=consent.USE_CANDIDATE in attributes)
        return True

    def hear(self, pair: tuple[LinkPath, Address], *, nominates: bool) -> None:
        """An authentic check of the peer has come by that pair."""
        if pair != self.in_use:
            self._learn(pair[1])
        elif self.consent.is_paused:
            self.mobility.probe()
        self.mobility.hear(pair, nominates=nominates)

    def _learn(self, remote: Address) -> None:
        """The peer is there, or somebody with a check of the peer's: take DTLS records from it."""
        self._demux.claim(self._connection, remote, proven=True)
        if remote in self._learnt:
            self._learnt.remove(remote)
        self._learnt.insert(0, remote)
        named = self._connection.named_remotes()
        for old in self._learnt[MAX_LEARNT:]:
            if old not in named and old != self.in_use[1]:
                self._demux.release(self._connection, old)
        del self._learnt[MAX_LEARNT:]
