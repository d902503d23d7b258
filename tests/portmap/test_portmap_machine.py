"""What is asked when, and what may be advertised; routers are played by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.portmap.machine import (
    CHECK_INTERVAL,
    FIRST_RETRY_INTERVAL,
    LEASE_LIFETIME,
    MAX_GATEWAYS,
    MAX_RETRY_INTERVAL,
    MIN_LIFETIME,
    Check,
    Probe,
    Release,
    Request,
    Routers,
)
from meshd.portmap.values import METHODS, Found, Gateway, Grant, PortMapping, Refusal

ROUTER = Gateway("192.168.1.1", "192.168.1.2")
SIXTH = Gateway("fe80::1", "2600::2", 3)
OUTSIDE = ("8.8.8.7", 4_242)
SILENT = Refusal("silent")


def started(*, gateways=(ROUTER,), port=4_242, **options) -> Routers:
    machine = Routers(**options)
    machine.set_routers(dict.fromkeys(gateways, port), 0.0)
    return machine


def answer(machine: Routers, now: float = 0.0, gateway: Gateway = ROUTER, **answers) -> None:
    """What the router says by each protocol; silence where nothing is given."""
    for method in METHODS:
        machine.probed(gateway, method, answers.get(method, SILENT), now)


def leased(now: float = 0.0, epoch: int | None = 100, **options) -> Routers:
    """A machine with a mapping by PCP."""
    machine = started(**options)
    answer(machine, now, pcp=Found(epoch=epoch))
    machine.requested(ROUTER, "pcp", 4_242, Grant(4_242, OUTSIDE, LEASE_LIFETIME, epoch), now)
    machine.take_actions()
    return machine


def due(machine: Routers) -> tuple[float, list]:
    """Go to the next deadline; when that is, and what is done then."""
    now = machine.next_deadline()
    assert now is not None
    machine.handle_timer(now)
    return now, machine.take_actions()


def test_all_protocols_are_asked_at_once_and_the_best_that_answers_is_used():
    machine = started()
    assert machine.take_actions() == [Probe(ROUTER, method) for method in METHODS]
    machine.probed(ROUTER, "igd", Found("8.8.8.7"), 0.0)
    machine.probed(ROUTER, "nat_pmp", Found("8.8.8.7", 9), 0.1)
    assert machine.take_actions() == [], "PCP may still answer"
    machine.probed(ROUTER, "pcp", Found(epoch=9), 0.2)
    assert machine.take_actions() == [Request(ROUTER, "pcp", 4_242, None, LEASE_LIFETIME)]
    machine.requested(ROUTER, "pcp", 4_242, Grant(4_242, OUTSIDE, LEASE_LIFETIME, 9), 0.3)
    assert machine.mappings() == (PortMapping("pcp", "192.168.1.1", ("192.168.1.2", 4_242), OUTSIDE),)
    (report,) = machine.reports()
    assert report.method == "pcp"
    assert report.external == OUTSIDE
    assert report.answers == {"pcp": "yes", "nat_pmp": "yes", "igd": "yes"}


def test_a_refusal_leads_to_the_next_protocol_and_none_to_waiting_longer_and_longer():
    machine = started()
    machine.take_actions()
    answer(machine, pcp=Found(), igd=Found("8.8.8.7"))
    assert [a.method for a in machine.take_actions()] == ["pcp"]
    machine.requested(ROUTER, "pcp", 4_242, Refusal("not_authorized"), 1.0)
    assert [a.method for a in machine.take_actions()] == ["igd"], "NAT-PMP was silent"
    machine.requested(ROUTER, "igd", 4_242, Refusal("not_authorized"), 2.0)
    assert machine.take_actions() == []
    assert machine.mappings() == ()
    assert machine.reports()[0].answers["igd"] == "not_authorized"
    assert machine.next_deadline() == 2.0 + FIRST_RETRY_INTERVAL
    waits, last = [], 2.0
    for _ in range(9):
        now, actions = due(machine)
        assert actions == [Probe(ROUTER, method) for method in METHODS]
        waits.append(now - last)
        answer(machine, now)
        last = now
    assert waits[:3] == [60.0, 120.0, 240.0]
    assert waits[-1] == MAX_RETRY_INTERVAL


def test_a_router_that_says_when_is_asked_then():
    machine = started()
    answer(machine, pcp=Found())
    machine.requested(ROUTER, "pcp", 4_242, Refusal("no_resources", retry_after=500.0), 0.0)
    assert machine.next_deadline() == 500.0
    machine = started()
    answer(machine, pcp=Found())
    machine.requested(ROUTER, "pcp", 4_242, Refusal("no_resources", retry_after=1e9), 0.0)
    assert machine.next_deadline() == MAX_RETRY_INTERVAL, "no router silences us for longer than an hour"


def test_a_lease_is_checked_often_and_renewed_at_half_life():
    machine = leased()
    seen = []
    now = 0.0
    while now < LEASE_LIFETIME / 2:
        now, (action,) = due(machine)
        seen.append((now, type(action)))
        if isinstance(action, Check):
            machine.checked(ROUTER, action.grant, Found(epoch=100 + int(now)), now)
    assert seen[0] == (CHECK_INTERVAL, Check)
    assert seen[-1] == (LEASE_LIFETIME / 2, Request)
    assert action.wanted == OUTSIDE, "the same address outside again, please"
    machine.requested(ROUTER, "pcp", 4_242, Grant(4_242, OUTSIDE, LEASE_LIFETIME, 100 + int(now)), now)
    assert machine.next_deadline() == now + CHECK_INTERVAL


@pytest.mark.parametrize(("lifetime", "until"), [(0.0, MIN_LIFETIME), (None, LEASE_LIFETIME)])
def test_a_lease_of_no_time_is_short_and_one_without_end_is_renewed_as_any(lifetime, until):
    machine = started()
    answer(machine, pcp=Found(epoch=100))
    machine.requested(ROUTER, "pcp", 4_242, Grant(4_242, OUTSIDE, lifetime, 100), 0.0)
    machine.take_actions()
    now, actions = 0.0, []
    while not any(isinstance(action, Request) for action in actions):
        now, actions = due(machine)
        for action in actions:
            if isinstance(action, Check):
                machine.checked(ROUTER, action.grant, Found(epoch=100 + int(now)), now)
    assert now == until / 2


def test_a_renewal_without_an_answer_is_tried_until_the_lease_is_over():
    machine = leased()
    now = LEASE_LIFETIME / 2
    machine.handle_timer(now)
    tries = 0
    while True:
        actions = machine.take_actions()
        if actions == [Probe(ROUTER, method) for method in METHODS] or not actions:
            break
        assert isinstance(actions[0], Request)
        tries += 1
        assert machine.mappings(), "until it has expired it stands"
        machine.requested(ROUTER, "pcp", 4_242, SILENT, now)
        deadline = machine.next_deadline()
        assert deadline is not None
        assert deadline > now
        now = deadline
        machine.handle_timer(now)
    assert 5 <= tries <= 12
    assert machine.mappings() == ()
    assert now <= LEASE_LIFETIME + FIRST_RETRY_INTERVAL


@pytest.mark.parametrize(
    "answer_to_check",
    [SILENT, Found(epoch=0), Found(epoch=5_000), Found(is_lost=True), Found("8.8.4.4", 100 + int(CHECK_INTERVAL))],
)
def test_a_check_that_finds_something_wrong_renews_at_once(answer_to_check):
    machine = leased()
    now, (check,) = due(machine)
    machine.checked(ROUTER, check.grant, answer_to_check, now)
    assert machine.take_actions() == [Request(ROUTER, "pcp", 4_242, OUTSIDE, LEASE_LIFETIME)]
    machine.requested(ROUTER, "pcp", 4_242, Grant(4_242, ("8.8.4.4", 99), LEASE_LIFETIME, 1), now)
    assert machine.mappings()[0].external == ("8.8.4.4", 99)


def test_an_announcement_of_a_restart_is_heeded_and_a_flood_is_not():
    machine = leased()
    machine.announced("192.168.1.66", 0, 5.0)
    machine.announced(ROUTER.address, 105, 5.0)  # all is well there
    assert machine.take_actions() == []
    machine.announced(ROUTER.address, 0, 6.0)
    assert [type(action) for action in machine.take_actions()] == [Request]
    machine.requested(ROUTER, "pcp", 4_242, Grant(4_242, OUTSIDE, LEASE_LIFETIME, 1), 6.1)
    for n in range(50):
        machine.announced(ROUTER.address, 90_000 * (n % 2), 6.2 + n / 100)
    assert machine.take_actions() == []


def test_an_announcement_wakes_who_has_given_up():
    machine = started()
    machine.take_actions()
    answer(machine)
    machine.announced(ROUTER.address, 0, 30.0)
    assert machine.take_actions() == [Probe(ROUTER, method) for method in METHODS]


@pytest.mark.parametrize(
    ("external", "trouble"),
    [
        ("10.0.0.5", "double_nat"),
        ("192.168.178.20", "double_nat"),
        ("100.64.3.2", "carrier_nat"),
        ("203.0.113.7", "not_public"),
        ("127.0.0.1", "not_public"),
        ("224.0.0.1", "not_public"),
        ("0.0.0.0", "not_public"),
        ("255.255.255.255", "not_public"),
    ],
)
def test_an_address_that_is_not_public_is_not_advertised_and_the_hole_is_closed(external, trouble):
    machine = started()
    answer(machine, pcp=Found())
    machine.take_actions()
    grant = Grant(4_242, (external, 4_242), LEASE_LIFETIME, 1)
    machine.requested(ROUTER, "pcp", 4_242, grant, 1.0)
    assert machine.mappings() == ()
    assert machine.take_actions() == [Release(ROUTER, "pcp", grant)]
    (report,) = machine.reports()
    assert (report.method, report.trouble, report.external) == ("pcp", trouble, (external, 4_242))

    machine = started()
    machine.take_actions()
    answer(machine, nat_pmp=Found(external, 1))
    assert machine.take_actions() == [], "it said so before: nothing is opened"
    assert machine.reports()[0].trouble == trouble
    assert machine.next_deadline() == FIRST_RETRY_INTERVAL


def test_documentation_addresses_are_public_in_a_laboratory_only():
    machine = started(allow_documentation=True)
    answer(machine, nat_pmp=Found("203.0.113.7", 1))
    machine.requested(ROUTER, "nat_pmp", 4_242, Grant(4_242, ("203.0.113.7", 1), 60.0, 1), 0.0)
    assert machine.mappings()
    assert machine.next_deadline() == 60.0, "a lease of a minute is renewed after a minute, not every half second"


def test_ipv6_is_asked_by_pcp_alone_and_an_unlimited_lease_is_renewed_too():
    machine = started(gateways=(SIXTH,))
    assert machine.take_actions() == [Probe(SIXTH, "pcp")]
    machine.probed(SIXTH, "pcp", Found(epoch=1), 0.0)
    machine.requested(SIXTH, "pcp", 4_242, Grant(4_242, ("2600::2", 4_242), None, None), 0.0)
    assert machine.mappings()[0].external == ("2600::2", 4_242)
    assert machine.next_deadline() == CHECK_INTERVAL


def test_several_routers_are_asked_side_by_side_and_forgotten_when_they_go():
    other = Gateway("10.0.0.1", "10.0.0.2")
    machine = started(gateways=(ROUTER, other))
    machine.take_actions()
    for gateway, address in ((ROUTER, "8.8.8.7"), (other, "9.9.9.9")):
        answer(machine, gateway=gateway, nat_pmp=Found(address, 1))
        machine.requested(gateway, "nat_pmp", 4_242, Grant(4_242, (address, 1), 600.0, 1), 0.0)
    assert [mapping.external[0] for mapping in machine.mappings()] == ["8.8.8.7", "9.9.9.9"]
    machine.take_actions()
    machine.set_routers({other: 4_242}, 1.0)
    assert [mapping.external[0] for mapping in machine.mappings()] == ["9.9.9.9"]
    assert machine.take_actions() == []
    many = tuple(Gateway(f"10.0.1.{n}", "10.0.1.200") for n in range(1, 30))
    machine.set_routers(dict.fromkeys(many, 4_242), 2.0)
    assert len(machine.reports()) == MAX_GATEWAYS


def test_nobody_is_asked_where_nothing_is_to_be_mapped():
    hosted = Gateway("8.8.8.1", "8.8.8.20")
    local = Gateway("fe80::1", "fd00::2")
    assert started(gateways=(hosted, local)).take_actions() == []
    assert started(port=0).take_actions() == []


def test_another_port_is_asked_for_anew_and_the_old_one_closed():
    machine = leased()
    machine.set_routers({ROUTER: 4_242}, 1.0)
    assert machine.take_actions() == []
    machine.set_routers({ROUTER: 5_555}, 1.0)
    release, *probes = machine.take_actions()
    assert isinstance(release, Release)
    assert probes == [Probe(ROUTER, method) for method in METHODS]
    assert machine.mappings() == ()


def test_a_grant_that_comes_too_late_is_taken_back():
    machine = started()
    answer(machine, pcp=Found())
    machine.stop()
    machine.take_actions()
    grant = Grant(4_242, OUTSIDE, LEASE_LIFETIME, 1)
    machine.requested(ROUTER, "pcp", 4_242, grant, 1.0)
    assert machine.take_actions() == [Release(ROUTER, "pcp", grant)]


def test_stopping_takes_everything_back():
    machine = leased()
    machine.stop()
    (release,) = machine.take_actions()
    assert isinstance(release, Release)
    assert release.grant.external == OUTSIDE
    assert machine.mappings() == ()
    assert machine.next_deadline() is None


EPOCHS = st.none() | st.integers(0, 9_999)
FOUND = st.builds(Found, st.sampled_from([None, "8.8.8.7", "10.0.0.1"]), EPOCHS, st.booleans())
REFUSED = st.builds(Refusal, st.sampled_from(["silent", "not_authorized"]), retry_after=st.floats(0, 1e9))
GRANTED = st.builds(
    Grant,
    st.just(4_242),
    st.tuples(st.sampled_from(["8.8.8.7", "10.0.0.1", "2600::2"]), st.integers(1, 65_535)),
    st.none() | st.floats(0, 1e9),
    EPOCHS,
)


@settings(max_examples=25)
@given(st.data())
def test_whatever_routers_say_it_goes_on_and_advertises_only_public_addresses(data):
    """Every question gets some answer some time later: then there is always a next deadline, and no storm."""
    machine = started(gateways=(ROUTER, SIXTH))
    now, asked = 0.0, 0
    actions = machine.take_actions()
    for _ in range(25):
        asked += len(actions)
        now += data.draw(st.floats(0, 5))
        for action in actions:
            match action:
                case Probe(gateway=gateway, method=method):
                    machine.probed(gateway, method, data.draw(FOUND | REFUSED), now)
                case Check(gateway=gateway, grant=grant):
                    machine.checked(gateway, grant, data.draw(FOUND | REFUSED), now)
                case Request(gateway=gateway, method=method, port=port):
                    machine.requested(gateway, method, port, data.draw(GRANTED | REFUSED), now)
        if data.draw(st.booleans()):
            machine.announced(ROUTER.address, data.draw(st.integers(0, 9_999)), now)
        assert all(mapping.external[0] in ("8.8.8.7", "2600::2") for mapping in machine.mappings())
        actions = machine.take_actions()
        if not actions:
            deadline = machine.next_deadline()
            assert deadline is not None
            now = max(now, deadline)
            machine.handle_timer(now)
            actions = machine.take_actions()
    assert asked <= 25 * 8
