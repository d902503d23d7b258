"""Real daemons and a real push service for each test; their last words, if it fails; nothing left, however it ends."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from demo.processes import Mesh


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """A running push service; daemons are added by the test."""
    with Mesh() as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log of a test that failed, while the logs are still there."""
    report = yield
    running = getattr(item, "funcargs", {}).get("mesh")
    if report.failed and isinstance(running, Mesh):
        report.sections.append(("logs of the daemons", running.last_lines(40)))
    return report
