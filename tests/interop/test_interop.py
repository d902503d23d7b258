"""Links with WebRTC implementations that are not ours: the browsers', libdatachannel's, and one in TypeScript."""

from __future__ import annotations

from pathlib import Path

import pytest
from apart import run_apart
from foreign import BROWSERS, NODE_PEERS

HERE = Path(__file__).parent
pytestmark = [pytest.mark.root, pytest.mark.needs("unshare", "ip"), pytest.mark.timeout(160)]


def call(name: str) -> None:
    run_apart(str(HERE / "call.py"), name)


@pytest.mark.needs("node")
@pytest.mark.parametrize("name", NODE_PEERS)
def test_links_with_an_implementation_for_node(name):
    call(name)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(BROWSERS[name])) for name in BROWSERS])
def test_links_with_a_browser(name):
    call(name)
