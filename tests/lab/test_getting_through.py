"""Links through routers, with real daemons: the rows that tell most. ``make lab`` plays all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import outcome_of, peer
from two_homes import COLUMNS, MEMBER, PUSH, TURN, TwoHomes

from demo.processes import Process, wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft", "turnserver", "miniupnpd"), pytest.mark.timeout(240)]


DIALLED_WITHIN = 5.0  # seconds after both are back: they tell each other so, and who has tried already waits a little


@pytest.fixture
def lab() -> Iterator[TwoHomes]:
    with TwoHomes() as lab:
        yield lab


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (
            "no STUN",
            {("port_restricted", "none"): "direct", ("port_restricted", "port_restricted"): "over a member"},
        ),
        (
            "mesh STUN",
            {("port_restricted", "port_restricted"): "direct", ("symmetric", "symmetric"): "over a member"},
        ),
        ("port mapping", {("symmetric", "symmetric"): "direct"}),
        ("TURN", {("symmetric", "symmetric"): "relay candidate", ("port_restricted", "port_restricted"): "direct"}),
    ],
)
def test_pairs_of_routers(lab: TwoHomes, column: str, expected: dict[tuple[str, str], str]) -> None:
    assert column in COLUMNS
    lab.settle(column)
    for pair, how in expected.items():
        outcome = outcome_of(lab, column, *pair)
        assert outcome.how == how, pair
        assert outcome.seconds < 10 + DIALLED_WITHIN, "a hopeless pair is known within ten seconds"
        if how == "over a member":
            assert "private addresses only" in outcome.why or "strict (symmetric)" in outcome.why


class Sniffer(Process):
    """Where the packets of home ``a`` go."""

    def __init__(self, lab: TwoHomes) -> None:
        super().__init__("sniffer", lab.directory / "sniffer.log")
        script = str(Path(__file__).with_name("sniff.py"))
        self.launch("ip", "netns", "exec", lab.switch, sys.executable, script, "to-home1")
        wait_for(lambda: "ready" in self.log(), "the sniffer listens")

    def destinations(self) -> set[str]:
        return set(self.log().split()) - {"ready"}


@pytest.mark.parametrize(("ice", "asked"), [("none", set()), ("mesh", {PUSH, MEMBER})])
def test_no_packet_leaves_the_mesh(lab: TwoHomes, ice: str, asked: set[str]) -> None:
    """Also not to a relay that the other side has named."""
    lab.settle("mesh STUN")
    lab.coturn.start()
    a, b = lab.daemons["a"], lab.daemons["b"]
    a.config_file.write_text(a.config_file.read_text().replace("[links]\n", f'[links]\nice = "{ice}"\n'))
    b.config_file.write_text(lab.links_config("b", "TURN"))
    sniffer = Sniffer(lab)
    try:
        lab.rebuild("mesh STUN", "symmetric", "symmetric")
        wait_for(lambda: peer(a, "b").get("last_error") or peer(b, "a").get("last_error"), "it has been tried", 30)
        seen = sniffer.destinations()
    finally:
        sniffer.kill()
    home_of_b = lab.homes["b"]
    members = {MEMBER, home_of_b.outside, f"{home_of_b.public}.2"}
    assert seen - members == asked - members, "nobody else, the TURN server least of all"
    assert TURN not in seen


def test_a_joiner_asks_the_servers_of_its_token(lab: TwoHomes) -> None:
    """Behind two ordinary routers the very first link needs STUN, before the joiner is a member."""
    lab.settle("mesh STUN")
    a, b = lab.daemons["a"], lab.daemons["b"]
    b.call("mesh.leave")
    for home in lab.homes.values():
        home.become("port_restricted")
    for daemon in (a, b):
        daemon.stop()
        daemon.start()
    wait_for(lambda: "member" in a.linked(), "a is back")
    joined = lab.join(b, a)
    assert joined["introducer"]["name"] == "a"
    wait_for(lambda: "a" in b.linked() and "b" in a.linked(), "they are linked")
