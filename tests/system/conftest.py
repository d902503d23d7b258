"""A booted systemd with the project installed in it, as `make install` does that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from installation import MEMBER, PROJECT, STRANGER, WHEELS, install
from sdbox import Box


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the installation needs from the package index, which cannot be reached from inside a box."""
    directory = tmp_path_factory.mktemp("wheels")
    source = tmp_path_factory.mktemp("source")
    (source / "pyproject.toml").write_bytes((PROJECT / "pyproject.toml").read_bytes())
    (source / "README.md").touch()
    pip = [sys.executable, "-m", "pip", "--quiet", "--quiet", "wheel", "--wheel-dir", str(directory)]
    subprocess.run([*pip, str(source), "setuptools", "wheel"], check=True, timeout=180)
    for own in directory.glob("meshd-*"):  # of an empty tree: what gets installed is built inside
        own.unlink()
    return directory


@pytest.fixture(scope="session")
def bare_box(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[Box]:
    """A box with two users and nothing of ours."""
    scratch = tmp_path_factory.mktemp("box")
    box = Box(scratch, f"meshd-{scratch.name}", {PROJECT: str(PROJECT), wheels: WHEELS})
    try:
        for user in (MEMBER, STRANGER):
            box.run("useradd", "--create-home", user)
        yield box
    finally:
        box.close()


@pytest.fixture(scope="session")
def box(bare_box: Box) -> Box:
    """A box with the project installed and running, and MEMBER in its group."""
    install(bare_box)
    bare_box.run("usermod", "--append", "--groups", "meshd", MEMBER)
    return bare_box


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the journal of the box said last, if a test in it fails."""
    report = yield
    box = getattr(item, "funcargs", {}).get("box")
    if report.failed and isinstance(box, Box):
        last = box.run("journalctl", "--no-pager", "--lines=60", check=False).stdout
        report.sections.append(("journal of the box", last))
    return report
