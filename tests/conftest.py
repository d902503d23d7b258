"""What all tests share: which tools a test needs, and what happens where one is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The machine may be busy: how long one example takes says nothing about the code.
hypothesis.settings.register_profile("meshd", deadline=None)
hypothesis.settings.load_profile("meshd")

# Set by `make ... REQUIRE=1`: continuous integration must not pass because half of it was skipped.
REQUIRE_ALL = bool(os.environ.get("MESHD_REQUIRE_ALL"))

sys.path.insert(0, str(Path(__file__).parent.parent))  # demo.processes: real daemons, as the demo starts them


def pytest_configure(config: pytest.Config) -> None:
    # Shells start what runs in the background with SIGINT ignored, and programs inherit that: tests of Ctrl-C would not
    # see any.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "needs(tool, ...): programs that must be on the PATH, `root`, or `python:MODULE`"
    )


def missing_for(item: pytest.Item) -> Iterator[str]:
    needed = {tool for mark in item.iter_markers("needs") for tool in mark.args}
    if item.get_closest_marker("root"):
        needed.add("root")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for tool in needed:
        if tool.startswith("python:"):
            if importlib.util.find_spec(tool.removeprefix("python:")) is None:
                yield tool
        elif os.geteuid() != 0 if tool == "root" else shutil.which(tool, path=path) is None:
            yield tool


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = sorted(missing_for(item))
    if not missing:
        return
    text = f"missing: {', '.join(missing)}"
    if REQUIRE_ALL:
        pytest.fail(f"{text} (and MESHD_REQUIRE_ALL is set)", pytrace=False)
    pytest.skip(text)
