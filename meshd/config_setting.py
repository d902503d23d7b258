"""One key of the configuration: its default and what is known about it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

# Policy
MAX_LIST_ENTRIES = 64  # in a list of addresses or origins; whoever writes more has the wrong file


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
    max_entries: int = MAX_LIST_ENTRIES  # of a list


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
    max_entries: int = MAX_LIST_ENTRIES,
) -> T:
    """A field of a section."""
    known = Setting(doc, unit, reload, low, high, choices, check, default_doc, max_entries)
    made: T = field(default=default, metadata={"setting": known})
    return made
