"""The units as files: how tight their sandbox is, and that each way out of it is explained."""

import json
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
MAX_EXPOSURE = 15  # tenths, as systemd-analyze counts
SERVICES = ("meshd.service", "meshd@.service", "meshd-push.service")


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_exposure_is_low(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager"]
    done = subprocess.run(
        [*command, f"--threshold={MAX_EXPOSURE}", f"./{name}"], cwd=UNITS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def settings(name: str) -> set[str]:
    lines = (UNITS / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith(("#", "["))}


def test_second_mesh_gets_the_same_sandbox() -> None:
    def shared(name: str) -> set[str]:
        own = ("Description", "After", "Requires", "Exec", "StateDirectory=", "RuntimeDirectory=", "LoadC", "Also")
        return {line for line in settings(name) if not line.startswith(own)}

    assert shared("meshd.service") == shared("meshd@.service")


@pytest.mark.parametrize("name", SERVICES)
def test_each_exception_is_explained(name: str) -> None:
    lines = (UNITS / name).read_text().splitlines()
    for number, line in enumerate(lines):
        if line.endswith("=no") or line.startswith("RestrictAddressFamilies"):
            assert lines[number - 1].startswith("#"), f"{name}:{number + 1} has no reason above it"


@pytest.mark.needs("systemd-analyze")
def test_exposure_figures_are_readable() -> None:
    """A unit that systemd cannot read has no exposure either: make sure that the figure is there."""
    command = ["systemd-analyze", "security", "--offline=yes", "--json=short", "./meshd.service"]
    checks = json.loads(subprocess.run(command, cwd=UNITS, capture_output=True, check=True).stdout)
    assert len(checks) > 50
