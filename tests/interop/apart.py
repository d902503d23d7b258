"""A program of ours in a network namespace of its own: browsers would like to talk to their makers."""

from __future__ import annotations

import subprocess
import sys

# Only one address, and no way out.
_ALONE = (
    "ip link set lo up; ip link add here type veth peer name there; ip address add 10.77.0.1/24 dev here; "
    'ip link set here up; ip link set there up; exec "$@"'
)


def run_apart(*arguments: str) -> None:
    """Run Python with these arguments there, and all that it starts; it must end well."""
    apart = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _ALONE, "sh"]
    done = subprocess.run([*apart, sys.executable, *arguments], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
