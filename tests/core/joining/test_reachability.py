"""What candidates tell of a machine's network, in words."""

from __future__ import annotations

import pytest

from meshd.config import LinksConfig
from meshd.core.joining.reachability import warnings_about, why_no_link
from meshd.wire.session_description import Candidate, SessionDescription

HOST = Candidate("host", "192.168.1.2", 4_000)
NAME = Candidate("host", "5f0b1c9e-0000-4000-8000-000000000000.local", 4_000)
PUBLIC = Candidate("host", "45.0.0.7", 4_000)
PUBLIC_V6 = Candidate("host", "2a0e:7::7", 4_000)
SEEN, SEEN_AGAIN = Candidate("srflx", "45.0.0.8", 4_000), Candidate("srflx", "45.0.0.8", 31_337)
RELAY = Candidate("relay", "45.0.0.9", 50_000)


def of(*candidates: Candidate) -> SessionDescription:
    return SessionDescription("abcd", "p" * 24, bytes(32), "actpass", candidates)


def warning(*candidates: Candidate, ice: str = "mesh") -> str:
    return " ".join(warnings_about(of(*candidates), LinksConfig(ice=ice)))


def test_who_can_be_reached_is_not_warned() -> None:
    assert warning(PUBLIC) == warning(HOST, RELAY) == ""
    assert warnings_about(of(HOST), LinksConfig(allow_loopback=True)) == []


@pytest.mark.parametrize(
    ("candidates", "ice", "said"),
    [
        ((), "mesh", "no usable network address"),
        ((), "relay_only", "links.turn_servers and their credentials"),
        ((HOST, SEEN), "mesh", "Most pairs of such machines can connect"),
        ((HOST, SEEN, SEEN_AGAIN), "stun", "strict (symmetric) NAT router"),
        ((HOST, Candidate("host", "192.168.1.3", 4_000), SEEN, SEEN_AGAIN), "mesh", "Most pairs"),
        ((HOST,), "none", 'set links.ice to "mesh"'),
        ((HOST,), "mesh", "run meshd-push on one"),
        ((HOST,), "stun", "links.stun_servers: none has answered"),
        ((NAME,), "mesh", "only private addresses"),
    ],
)
def test_what_is_said_before(candidates: tuple[Candidate, ...], ice: str, said: str) -> None:
    assert said in warning(*candidates, ice=ice)


@pytest.mark.parametrize(
    ("here", "there", "ice", "said"),
    [
        ((), (PUBLIC,), "mesh", "This machine has no usable network address"),
        ((PUBLIC,), (), "mesh", "The other machine has no usable network address"),
        ((HOST,), (HOST,), "mesh", "Both machines offered private addresses only"),
        ((HOST,), (HOST, SEEN), "none", "This machine offered private addresses only"),
        ((HOST, SEEN), (HOST,), "mesh", "The other machine offered private addresses only"),
        ((HOST, SEEN), (HOST, RELAY), "mesh", "keeps this one from using"),
        ((PUBLIC,), (HOST, RELAY), "none", "keeps this one from using, and from answering"),
        ((HOST, SEEN, SEEN_AGAIN), (HOST, SEEN, SEEN_AGAIN, RELAY), "mesh", "keeps this one from using"),
        ((HOST, RELAY), (PUBLIC,), "turn", 'answers there only if its links.ice is "stun" or "turn"'),
        ((HOST, SEEN, SEEN_AGAIN), (HOST, SEEN), "mesh", "This machine is behind a strict"),
        ((HOST, SEEN), (HOST, SEEN, SEEN_AGAIN), "mesh", "The other machine is behind a strict"),
        ((HOST, SEEN, SEEN_AGAIN), (HOST, SEEN, SEEN_AGAIN), "stun", "Both machines are behind a strict"),
        ((HOST,), (PUBLIC,), "mesh", "a firewall that blocks UDP, most likely here"),
        ((PUBLIC,), (HOST,), "mesh", "a firewall that blocks UDP, on either side"),
        ((HOST,), (PUBLIC, RELAY), "mesh", "a firewall that blocks UDP, most likely here"),
        ((HOST,), (PUBLIC_V6,), "mesh", "This machine offered private addresses only"),
        ((NAME,), (HOST,), "mesh", "Both machines offered private addresses only"),
        ((PUBLIC,), (HOST, SEEN, SEEN_AGAIN), "mesh", "a firewall that blocks UDP"),
        ((HOST, SEEN), (HOST, SEEN), "mesh", "a firewall that blocks UDP"),
    ],
)
def test_what_is_said_afterwards(
    here: tuple[Candidate, ...], there: tuple[Candidate, ...], ice: str, said: str
) -> None:
    assert said in why_no_link(of(*here), of(*there), LinksConfig(ice=ice))


def test_a_description_that_never_came() -> None:
    assert "never came" in why_no_link(of(HOST), None, LinksConfig())
