"""Prometheus' text format, version 0.0.4: families of samples, each with its help and type, written once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Specification (https://prometheus.io/docs/instrumenting/exposition_formats/)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Policy
MAX_SAMPLES = 1_024  # of one family; more than links and counters can make, but nobody's disk is to find out


@dataclass(frozen=True, slots=True)
class Family:
    """What samples of one name mean. ``name`` as it is written, so that of a counter ends in ``_total``."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


Labels = tuple[str, ...]  # values, in the order of the family's labels
Samples = Iterable[tuple[Labels, float | None]]


class Exposition:
    """A page being written. A sample without a value is left out, as is one whose labels were there already."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, family: Family, samples: Samples) -> None:
        """Write a family, if it has any sample."""
        written: dict[Labels, float] = {}
        for labels, value in samples:
            if value is not None and len(written) < MAX_SAMPLES:
                written.setdefault(labels, value)
        if not written:
            return
        self._lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        self._lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in written.items():
            named = zip(family.labels, labels, strict=True)
            shown = ",".join(f'{name}="{_escaped(text, quotes=True)}"' for name, text in named)
            self._lines.append(
                f"{family.name}{{{shown}}} {_number(value)}" if shown else f"{family.name} {_number(value)}"
            )

    def add_one(self, family: Family, value: float | None) -> None:
        """Write a family of one sample without labels."""
        self.add(family, [((), value)])

    def add_mapping(self, family: Family, values: Mapping[str, float]) -> None:
        """Write a family with one label, in the order of its values."""
        self.add(family, (((label,), value) for label, value in sorted(values.items())))

    def text(self) -> str:
        """The page; ends with a newline."""
        return "\n".join(self._lines) + "\n"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
