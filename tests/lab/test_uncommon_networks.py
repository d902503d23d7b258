"""Links where networks are not of the usual kind: the rows that tell most. ``make lab`` plays all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from uncommon import ROWS, Row
from uncommon_homes import UncommonHomes

pytestmark = [pytest.mark.root, pytest.mark.needs("ip", "nft", "sysctl", "turnserver"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def lab() -> Iterator[UncommonHomes]:
    """One mesh for all rows: founding it takes longer than most of them."""
    with UncommonHomes() as lab:
        lab.settle("mesh STUN")
        yield lab


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.name}, {row.told}") for row in ROWS if row.is_quick])
def test_what_becomes_of_it(lab: UncommonHomes, row: Row) -> None:
    result = row.play(lab)
    assert result.startswith(row.expected), lab.last_lines()
