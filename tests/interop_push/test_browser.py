"""Firefox has our push service for its own, and understands what a node pushes to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "interop"))

from apart import run_apart

pytestmark = pytest.mark.root


@pytest.mark.timeout(160)
@pytest.mark.needs("unshare", "ip", "firefox-esr")
def test_firefox_is_pushed_to_by_a_node():
    run_apart(str(Path(__file__).parent / "browser.py"))
