"""The project in a box: who lives there, and how it gets in and out."""

from __future__ import annotations

from pathlib import Path

from sdbox import Box

PROJECT = Path(__file__).parents[2]
WHEELS = "/srv/wheels"  # inside: the package index cannot be reached from a box
MEMBER, STRANGER = "alice", "mallory"  # users inside: one in the group meshd, one not


def make(box: Box, *arguments: str) -> str:
    """Run make in the project's directory, inside, as root. Returns what it said."""
    return box.run("make", "-C", str(PROJECT), *arguments).stdout


def install(box: Box) -> str:
    """`make install`, and what it said."""
    return make(box, "install", f"PIP_ARGS=--no-index --find-links={WHEELS}")
