"""Networks that change under running links, with real daemons: the quick rows. ``make lab`` plays all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from staying_up import ROWS, Row, play
from two_homes import TwoHomes

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft"), pytest.mark.timeout(120)]


@pytest.fixture
def lab() -> Iterator[TwoHomes]:
    with TwoHomes() as lab:
        lab.settle("mesh STUN")
        yield lab


@pytest.mark.parametrize("row", [row for row in ROWS if row.is_quick], ids=lambda row: row.name)
def test_a_stream_goes_on_and_messages_arrive_once(lab: TwoHomes, row: Row) -> None:
    """The contents of both are checked, down to the exit statuses of the programs at both ends."""
    survived = play(lab, row)
    print(f"{row.name}: {survived}")
    assert survived.seconds < row.within
