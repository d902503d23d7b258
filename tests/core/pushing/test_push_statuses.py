"""The table of statuses: every number means something, and each row what it should."""

from __future__ import annotations

import pytest

from meshd.core.pushing.statuses import STATUSES, Verdict, verdict_of

ROWS = [
    (0, Verdict.TROUBLE),
    (200, Verdict.ACCEPTED),
    (201, Verdict.ACCEPTED),
    (202, Verdict.ACCEPTED),
    (204, Verdict.REFUSED),
    (301, Verdict.REFUSED),
    (302, Verdict.REFUSED),
    (307, Verdict.REFUSED),
    (308, Verdict.REFUSED),
    (400, Verdict.REFUSED),
    (401, Verdict.UNAUTHORIZED),
    (403, Verdict.UNAUTHORIZED),
    (404, Verdict.GONE),
    (408, Verdict.LATER),
    (410, Verdict.GONE),
    (413, Verdict.TOO_LARGE),
    (418, Verdict.REFUSED),
    (425, Verdict.LATER),
    (429, Verdict.LATER),
    (500, Verdict.TROUBLE),
    (502, Verdict.TROUBLE),
    (503, Verdict.TROUBLE),
    (507, Verdict.TROUBLE),
    (599, Verdict.TROUBLE),
    (999, Verdict.REFUSED),
]


@pytest.mark.parametrize(("status", "verdict"), ROWS)
def test_row(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


def test_every_row_of_the_table_is_looked_at() -> None:
    seen = {status for status, _ in ROWS}
    assert all(any(status in row for status in seen) for row, _ in STATUSES)


@pytest.mark.parametrize(
    ("detail", "verdict"),
    [
        ("timeout", Verdict.TROUBLE),
        ("dns", Verdict.TROUBLE),
        ("busy", Verdict.LATER),
        ("endpoint_refused: private_address", Verdict.REFUSED),
        ("malformed_request", Verdict.REFUSED),
    ],
)
def test_why_there_was_no_answer(detail: str, verdict: Verdict) -> None:
    assert verdict_of(0, detail) is verdict
