"""What an entry of the table of control methods is made of."""

from __future__ import annotations

from typing import NamedTuple

from meshd.control.shapes import Field

READ = "read"
WRITE = "write"
ADMIN = "admin"
PERMISSIONS = (READ, WRITE, ADMIN)  # each includes those before it


class Param(NamedTuple):
    """One named parameter. ``low`` and ``high`` are inclusive and mean what the kind says (see ``shapes``)."""

    name: str
    kind: str
    doc: str
    required: bool = True
    default: object = None
    low: float | None = None
    high: float | None = None


class Notice(NamedTuple):
    """A notification that follows on a subscription."""

    name: str
    fields: tuple[Field, ...]
    doc: str


class Method(NamedTuple):
    """One method. ``example`` is the ``params`` object of a call that would be accepted."""

    name: str
    permission: str
    doc: str
    params: tuple[Param, ...]
    result: tuple[Field, ...]
    example: dict[str, object]
    notices: tuple[Notice, ...] = ()
    descriptor: str = ""  # what the file descriptor is for that has to be passed along; empty: none is taken


MEMBER = "A member: its name, its id, or a unique beginning of its id."
PEER = Param("peer", "string", MEMBER, low=1, high=128)

MAX_TIMEOUT = 86_400.0  # seconds: a day; who wants to wait longer wants to watch
SEQ = Field("seq", "integer", "Counts from 0 on each subscription, without gaps.")
