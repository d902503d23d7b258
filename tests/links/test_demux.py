"""Which link a datagram is for: links that are only a name and a list of what they got."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meshd.links.demux import Demux, Kind, kind_of

HERE, THERE = ("192.0.2.1", 4_000), ("192.0.2.2", 4_000)
HELLO = b"\x16\xfe\xff\x00\x00" + bytes(20)  # a handshake record, without keys
DATA = b"\x17\xfe\xfd\x00\x01" + bytes(20)


class Link:
    """Takes what begins with its letter in the last byte, and everything while it has no letter."""

    def __init__(self, key: bytes = b"", *, handshaking: bool = False) -> None:
        self.key = key
        self.is_handshaking = handshaking
        self.got: list[bytes] = []
        self.flushed = 0

    def receive_record(self, datagram: bytes) -> bool:
        if self.is_handshaking or datagram.endswith(self.key):
            self.got.append(datagram)
            return True
        return False

    def flush(self) -> None:
        self.flushed += 1


def demux_of(*links: Link, proven: bool = True) -> Demux[Link]:
    demux: Demux[Link] = Demux(Counter())
    for number, link in enumerate(links):
        demux.add(f"uf{number:02}", link)
        demux.claim(link, HERE, proven=proven)
    return demux


def test_what_a_datagram_is():
    stun = lambda first, second: bytes([first, second]) + bytes(18)  # noqa: E731
    cases = {
        b"": Kind.EMPTY,
        stun(0, 1): Kind.STUN_REQUEST,
        stun(1, 1): Kind.STUN_RESPONSE,
        stun(1, 0x11): Kind.STUN_RESPONSE,
        stun(0, 0x11): Kind.OTHER,
        b"\x00\x01": Kind.OTHER,
        HELLO: Kind.DTLS,
        b"\x3f": Kind.DTLS,
        b"\x40": Kind.OTHER,
        b"\x80": Kind.OTHER,
    }
    assert {data: kind_of(data) for data in cases} == cases


@given(st.binary(max_size=64))
def test_every_datagram_is_of_some_kind(data):
    assert isinstance(kind_of(data), Kind)


def test_a_request_finds_its_link_by_our_half_of_the_name():
    link, other = Link(), Link()
    demux = demux_of(link, other)
    assert demux.of_username(b"uf01:theirs") is other
    assert demux.of_username(b"theirs:uf01") is None
    demux.remove("uf01", other)
    assert demux.of_username(b"uf01:theirs") is None
    assert demux.is_known("uf00")
    assert len(demux) == 1


def test_nobody_gets_what_comes_from_nowhere():
    counters: Counter[str] = Counter()
    demux: Demux[Link] = Demux(counters)
    demux.deliver(HELLO, HERE)
    assert counters == {"datagram_foreign": 1}


def test_a_successor_on_the_same_address_gets_the_handshake_and_not_the_data():
    old, new = Link(b"o"), Link(b"n", handshaking=True)
    demux = demux_of(old, new)
    demux.deliver(HELLO, HERE)
    assert (old.got, new.got) == ([], [HELLO])
    new.is_handshaking = False
    demux.deliver(DATA + b"o", HERE)
    demux.deliver(DATA + b"n", HERE)
    demux.deliver(DATA + b"x", HERE)
    assert (old.got, new.got) == ([DATA + b"o"], [HELLO, DATA + b"n"])
    demux.remove("uf00", old)
    demux.deliver(DATA + b"n", HERE)
    assert new.got[2:] == [DATA + b"n"]


def test_of_two_handshakes_the_newest_gets_what_comes():
    first, second = Link(handshaking=True), Link(handshaking=True)
    demux_of(first, second).deliver(HELLO, HERE)
    assert (first.got, second.got) == ([], [HELLO])


def test_naming_the_address_of_another_link_gets_nothing_of_its_handshake():
    honest, thief = Link(handshaking=True), Link(handshaking=True)
    demux = demux_of(honest)
    demux.add("evil", thief)
    demux.claim(thief, HERE, proven=False)
    demux.deliver(HELLO, HERE)
    assert (honest.got, thief.got) == ([HELLO], [])
    honest.is_handshaking, honest.key = False, b"h"
    demux.deliver(HELLO, HERE)  # now the only handshake there is may be its own
    demux.deliver(DATA + b"h", HERE)
    assert honest.got == [HELLO, DATA + b"h"]


def test_who_decrypted_last_is_asked_first():
    links = [Link(bytes([65 + n])) for n in range(3)]
    demux = demux_of(*links)
    asked: list[int] = []
    for number, link in enumerate(links):
        link.receive_record = lambda data, n=number: asked.append(n) or data.endswith(bytes([65 + n]))  # type: ignore[method-assign]
    demux.deliver(DATA + b"A", HERE)
    assert asked == [2, 1, 0]
    asked.clear()
    demux.deliver(DATA + b"A", HERE)
    assert asked == [0]


def test_links_are_told_once_when_nothing_more_comes():
    link, idle = Link(), Link()
    demux = demux_of(link)
    demux.claim(idle, THERE, proven=True)
    for _ in range(5):
        demux.deliver(DATA, HERE)
    assert link.flushed == 0
    demux.flush()
    demux.flush()
    assert (link.flushed, idle.flushed) == (1, 0)


def test_a_link_that_ends_while_others_are_told_is_left_out():
    first, second = Link(), Link()
    demux = demux_of(first)
    demux.add("next", second)
    demux.claim(second, THERE, proven=True)

    def end_the_other() -> None:
        demux.remove("uf00", first)

    second.flush = end_the_other  # type: ignore[method-assign]
    demux.deliver(DATA, HERE)
    demux.deliver(DATA, THERE)
    demux.flush()
    assert first.flushed == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans())))
def test_any_order_of_claims_and_ends_leaves_nothing_behind(steps):
    demux: Demux[Link] = Demux(Counter())
    links = [Link() for _ in range(4)]
    for number, proven, there in steps:
        demux.add(str(number), links[number])
        demux.claim(links[number], THERE if there else HERE, proven=proven)
        demux.deliver(DATA, HERE)
    for number, link in enumerate(links):
        demux.remove(str(number), link)
    demux.deliver(DATA, HERE)
    demux.flush()
    assert (len(demux), demux._claims, demux._claimed, demux._only) == (0, {}, {}, {})
    assert not any(link.flushed for link in links)
