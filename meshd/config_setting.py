"""One key of the configuration: its default and what is known about it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about one key besides its type. ``check`` returns what is wrong with a value, or ''."""

    doc: str
    unit: str = ""
    reload: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], str] | None = None
    default_doc: str = ""  # what an empty default means


def setting(
    default: T,
    doc: str,
    *,
    unit: str = "",
    reload: bool = False,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[str], str] | None = None,
    default_doc: str = "",
) -> T:
    """A field of a section."""
    known = Setting(doc, unit, reload, low, high, choices, check, default_doc)
    made: T = field(default=default, metadata={"setting": known})
    return made
