"""Numbers that fit a column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshctl import durations, quantities, reasons
from meshd.core.overlay.neighbors import LOSS_REASONS


@pytest.mark.parametrize(
    ("count", "shown", "tight"),
    [
        (0, "0 B", "0"),
        (812, "812 B", "812"),
        (999.4, "999 B", "999"),
        (999.6, "1.0 kB", "1.0k"),
        (16_384, "16 kB", "16k"),
        (999_600, "1.0 MB", "1.0M"),
        (1_234_567, "1.2 MB", "1.2M"),
        (9_990_000, "10 MB", "10M"),
        (5e18, "5.0 EB", "5.0E"),
    ],
)
def test_sizes(count, shown, tight):
    assert quantities.size(count) == shown
    assert quantities.tight(count) == tight


@pytest.mark.parametrize(("share", "shown"), [(0, "0%"), (0.004, "0.4%"), (0.02, "2%"), (0.125, "12%"), (1, "100%")])
def test_shares(share, shown):
    assert quantities.percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0ms"),
        (0.00061, "0.6ms"),
        (0.0243, "24ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (9.94, "9.9s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (3_599, "59m"),
        (3_600, "1h"),
        (200_000, "2d"),
    ],
)
def test_durations(seconds, shown):
    assert durations.tight(seconds) == shown


@given(st.floats(0, 1e18), st.floats(0, 1e9), st.floats(0, 1))
def test_all_of_them_fit(count, seconds, share):
    assert len(quantities.tight(count)) <= 4
    assert len(durations.tight(seconds)) <= 6
    assert len(quantities.percent(share)) <= 4


def test_reasons_for_which_links_are_lost_have_words():
    rare = {"hello_out_of_turn", "malformed", "stream_number"}  # what only broken peers do
    for reason in LOSS_REASONS - rare:
        assert reasons.in_words(reason) == f"{reasons.in_words(reason).removesuffix(f' ({reason})')} ({reason})"
        assert " " in reasons.in_words(reason)
    assert reasons.in_words("something_new") == "something_new"
    assert reasons.in_words("push_failed: dns").endswith("(push_failed: dns)")
