"""Every row of the bench that needs no root runs in its smallest form; only that a figure comes out is looked at."""

from __future__ import annotations

import pytest

from bench.__main__ import ROWS, main
from bench.extent import SMALLEST
from bench.page import BEGIN, END, write_row
from bench.pairs import Transfer
from bench.rows import throughput
from bench.table import Figure


@pytest.fixture(autouse=True)
def no_root(monkeypatch):
    """As if the user were not root, also where the tests are root's."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.mark.parametrize("name", ["ping", "loaded", "opening", "idle", "links500", "sizes", "pushservice"])
def test_a_row_gives_figures(name):
    figures = list(ROWS[name](SMALLEST))
    meshd = [figure for figure in figures if figure.aim]
    assert meshd
    assert all(figure.met is not None for figure in meshd)


def test_cryptography_is_compared_with_those_who_are_here():
    for figure in ROWS["webpush"](SMALLEST):
        assert figure.met is not None or "is not installed" in figure.measured or "the curve" in figure.what


def test_all_who_are_here_deliver_what_was_sent():
    figures = list(throughput.loopback(SMALLEST))
    shown = {figure.what.strip(): figure.measured for figure in figures}
    for name in ("meshd links", "aiortc on uvloop", "aiortc on asyncio"):
        assert "MB/s" in shown[name]
    assert "MB/s" in shown["kernel TCP cubic"] or "does not allow cubic" in shown["kernel TCP cubic"]
    assert not any("WRONG" in measured for measured in shown.values())


@pytest.mark.parametrize("name", ["rtt20", "rtt50", "loss", "deep", "buffers", "fairness", "ceiling"])
def test_rows_with_a_path_say_that_they_need_root(name):
    assert {figure.measured for figure in ROWS[name](SMALLEST)} == {"needs root"}


def test_a_rate_between_samples_is_in_proportion():
    transfer = Transfer([(1.0, 100), (2.0, 300), (4.0, 700)], 0, 0.0, 4.0, {"a": 1.0, "b": 2.0})
    assert transfer.rate() == 175.0
    assert transfer.rate(1.5, 3.0) == pytest.approx(200.0)
    assert transfer.size_at(9.0) == 700
    assert transfer.cpu_for_each_gb == pytest.approx(3.0 / 700e-9)


def test_a_row_takes_its_place_on_the_page_and_the_rest_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nnothing yet\n{END}\nafter\n")
    order = ["first", "second"]
    write_row("second", [Figure("a | b", "1 MB/s", ">= 1 x", "0.50 x", met=False)], "how it was", order, page)
    write_row("first", [Figure("old", "")], "long ago", order, page)
    write_row("first", [Figure("new", "")], "now", order, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| a \\| b | >= 1 x | 0.50 x MISSED | 1 MB/s |" in text
    assert "how it was" in text
    assert text.index("| new |") < text.index("| a \\| b |")
    assert not any(gone in text for gone in ("nothing yet", "| old |", "long ago"))


def test_a_row_that_breaks_is_a_line_and_no_end(monkeypatch, capsys):
    def breaks(extent):
        raise RuntimeError("no reason")
        yield

    monkeypatch.setitem(ROWS, "ping", breaks)
    monkeypatch.setattr("sys.argv", ["bench", "--smallest", "--only", "ping", "sizes"])
    assert main() == 0
    said = capsys.readouterr().out
    assert "broke: RuntimeError: no reason" in said
    assert "description with 6 candidates" in said
