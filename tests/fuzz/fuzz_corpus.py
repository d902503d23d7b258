"""The corpus: one file for each target, one input a line, in base64."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def read(name: str) -> list[bytes]:
    """What is kept for that target."""
    path = CORPUS / f"{name}.txt"
    return [base64.b64decode(line) for line in path.read_text().split()] if path.exists() else []


def write(name: str, inputs: Iterable[bytes]) -> None:
    """Keep these, the short ones first."""
    lines = [base64.b64encode(data).decode() for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    (CORPUS / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines if line))
