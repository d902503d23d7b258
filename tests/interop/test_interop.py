"""Links with WebRTC implementations that are not ours: the browsers', libdatachannel's, and one in TypeScript."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from foreign import BROWSERS, NODE_PEERS

HERE = Path(__file__).parent
pytestmark = [pytest.mark.root, pytest.mark.needs("unshare", "ip")]

# Only one address, and no way out: browsers would like to talk to their makers.
_ALONE = (
    "ip link set lo up; ip link add here type veth peer name there; ip address add 10.77.0.1/24 dev here; "
    'ip link set here up; ip link set there up; exec "$@"'
)


def call(name: str) -> None:
    command = [sys.executable, str(HERE / "call.py"), name]
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _ALONE, "sh", *command],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("node")
@pytest.mark.parametrize("name", NODE_PEERS)
def test_links_with_an_implementation_for_node(name):
    call(name)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(BROWSERS[name])) for name in BROWSERS])
def test_links_with_a_browser(name):
    call(name)
