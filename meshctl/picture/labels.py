"""What stands beside each node, and on which side of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from unicodedata import east_asian_width

from meshctl.picture.layout import Box, Point
from meshctl.picture.model import OTHERS, Member, Picture

# Policy
MAX_REMARKED = 40  # members; beyond that only this node and its neighbors have a remark below their names
MAX_LABELLED = 220  # members; beyond that only this node, its neighbors and some that are down are named
MAX_DOWN_LABELLED = 30  # of the latter
MAX_CHOOSING = 24  # members; beyond that all names are below, where the layout has kept room for them
_CHAR = 0.57  # of the font's size: the usual width of a character
_REMARK = 0.85  # of the name's font
_GAP = 4.0  # between node and name

Rect = tuple[float, float, float, float]  # left, top, right, bottom


class Label(NamedTuple):
    """``x`` of both lines, ``y`` of their baselines; ``anchor`` is ``start``, ``middle`` or ``end``."""

    name: str
    remark: str
    x: float
    name_y: float
    remark_y: float
    anchor: str
    rect: Rect


def text_width(text: str, font: float) -> float:
    """About so wide, in pixels."""
    return font * sum(1.0 if east_asian_width(char) in "WF" else _CHAR for char in text)


def named(members: Sequence[Member]) -> set[int]:
    """Whose names are written."""
    if len(members) <= MAX_LABELLED:
        return set(range(len(members)))
    down = [number for number, member in enumerate(members) if member.state == "unreachable"]
    near = {number for number, member in enumerate(members) if member.state in ("self", "neighbor")}
    return near | set(down[:MAX_DOWN_LABELLED])


def remark_of(member: Member, count: int) -> str:
    """The second line, where there are ``count`` members."""
    return member.remark if count <= MAX_REMARKED or member.state in ("self", "neighbor") else ""


def size_of(member: Member, count: int, font: float) -> Point:
    """Width and height of the label."""
    remark = remark_of(member, count)
    width = max(text_width(member.label, font), text_width(remark, font * _REMARK))
    return width, font * 1.15 + (font if remark else 0.0)


def box_of(member: Member, radius: float, count: int, font: float, *, is_named: bool) -> Box:
    """What the layout keeps free: the node, and its label below."""
    if not is_named:
        return Box(radius + 2, radius + 2, radius + 2)
    width, height = size_of(member, count, font)
    return Box(max(width / 2, radius) + 5, radius + _GAP, radius + _GAP + height + 4)


def labels_of(
    picture: Picture, spots: Sequence[Point], radius: Callable[[Member], float], font: float
) -> dict[int, Label]:
    """The labels of all that are named. With few members each is where it hides the least."""
    members, count = picture.members, len(picture.members)
    labels: dict[int, Label] = {}
    for number in sorted(named(members)):
        member = members[number]
        sides = _sides(member, spots[number], radius(member), count, font)
        labels[number] = sides[0]
        if count <= MAX_CHOOSING:
            taken = [label.rect for label in labels.values() if label is not sides[0]]
            dots = [_dot(spots[other], radius(members[other])) for other in range(count) if other != number]
            labels[number] = min(sides, key=lambda side: _hidden(side.rect, picture, spots, [*taken, *dots]))
    return labels


def _sides(member: Member, spot: Point, radius: float, count: int, font: float) -> list[Label]:
    """Below, above, right, left: the first of equals is taken."""
    (x, y), remark = spot, remark_of(member, count)
    width, height = size_of(member, count, font)
    away = radius + _GAP
    tops = (y + away, y - away - height, y - height / 2, y - height / 2)
    labels = []
    for side, top in enumerate(tops):
        anchor = ("middle", "middle", "start", "end")[side]
        at = x + (0.0, 0.0, away + 2, -away - 2)[side]
        left = at - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        baseline = top + font * 0.85
        rect = (left, top, left + width, top + height)
        labels.append(Label(member.label, remark, at, baseline, baseline + font, anchor, rect))
    return labels


def _dot(spot: Point, radius: float) -> Rect:
    return spot[0] - radius, spot[1] - radius, spot[0] + radius, spot[1] + radius


def _hidden(rect: Rect, picture: Picture, spots: Sequence[Point], things: Sequence[Rect]) -> float:
    """How bad it would be there."""
    left, top, right, bottom = rect
    cost = 0.0
    for a, b, c, d in things:
        if left < c and a < right and top < d and b < bottom:
            cost += 20.0
    for edge in picture.edges:
        if _crosses(spots[edge.one], spots[edge.other], rect):
            cost += 1.0 if edge.kind == OTHERS else 2.0
    return cost


def _crosses(a: Point, b: Point, rect: Rect) -> bool:
    """Whether the line between two points touches it (Liang and Barsky)."""
    enters, leaves = 0.0, 1.0
    for start, change, low, high in ((a[0], b[0] - a[0], rect[0], rect[2]), (a[1], b[1] - a[1], rect[1], rect[3])):
        if abs(change) < 1e-9:
            if not low <= start <= high:
                return False
            continue
        one, other = sorted(((low - start) / change, (high - start) / change))
        enters, leaves = max(enters, one), min(leaves, other)
    return enters <= leaves
