"""Where to draw the nodes of a graph: computed with nothing but arithmetic, the same for the same graph.

Few nodes that are nearly all linked go on a circle. Otherwise the distances in the picture are made to fit those in the
graph (stress, by stochastic gradient descent: Zheng, Pawar and Goodman, 2018), pair by pair. A tree begins as rings
around its root; else the places to begin with come from hashes of the nodes' keys, as does the order of the pairs: a
link more or less moves the picture a little, and does not shuffle it. Last, boxes that overlap are pushed apart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple
from zlib import crc32

# Policy
MAX_CIRCLE = 24  # nodes; more of them make a ring too wide for a screen
MIN_CIRCLE_SHARE = 0.5  # of all pairs that are linked; with fewer the shape of the graph says more
MAX_ALL_PAIRS = 320  # nodes: 51,000 pairs in 30 rounds take about a second
PIVOTS = 48  # nodes that all others keep their distance to, where there are more
ROUNDS = 30
MIN_ROUNDS, MAX_ROUNDS = 6, 200
FEW_MOVES = 15_000  # of pairs, which may always be: few nodes get more rounds
MAX_MOVES = 1_800_000  # of pairs in all rounds, about a second; then fewer rounds
STARTS = 12  # from other places each, where there are few nodes: the best of them hardly depends on where it began
MIN_LENGTHINESS = 0.35  # of 1, a line: what is longer than that is laid flat
LINE = 0.96  # what is longer than that is a line, and a bend of it chance
TREE_STEP = 1.0  # of the first round for a tree, which begins in good order
LAST_STEP = 0.05  # of the first round's steps nothing is left: places have settled
ROOM = 2.4  # how many times its nodes' boxes a picture has of area
STRETCH = 1.3  # of the width, where there are many nodes: names lie, and so do screens
PUSHES = 80  # rounds of pushing apart
MAX_LOOKS = 2_000_000  # at pairs of boxes in all rounds, a second at most; then some may still overlap
GAP = 46.0  # between parts of the graph that nothing links

Point = tuple[float, float]


class Box(NamedTuple):
    """What a node covers around its place, in pixels: half of its width, and what is above and below."""

    half: float
    above: float
    below: float


def place(
    keys: Sequence[str],
    edges: Sequence[tuple[int, int, float]],
    boxes: Sequence[Box],
    spacing: float,
    root: int | None = None,
) -> list[Point]:
    """The place of each node, in pixels. ``edges`` have a length (1 is usual), ``spacing`` is what 1 at least is.

    Around ``root`` its part of the graph is laid out, if that is a tree.
    """
    near: list[dict[int, float]] = [{} for _ in keys]
    for one, other, length in edges:
        if one != other:
            near[one][other] = near[other][one] = min(length, near[one].get(other, length))
    places: list[Point] = [(0.0, 0.0)] * len(keys)
    parts = sorted(_parts(near), key=lambda part: (-len(part), min(keys[node] for node in part)))
    for part in parts:
        number = {node: own for own, node in enumerate(part)}
        links = [{number[other]: length for other, length in near[node].items()} for node in part]
        spots = _place_part([keys[node] for node in part], links, number.get(-1 if root is None else root))
        own_boxes = [boxes[node] for node in part]
        spots = _push_apart(_scale(spots, own_boxes, spacing), own_boxes)
        for node, spot in zip(part, spots, strict=True):
            places[node] = spot
    return _pack(places, parts, boxes)


def _parts(near: list[dict[int, float]]) -> list[list[int]]:
    """The nodes of each part that hangs together, in order."""
    parts, seen = [], [False] * len(near)
    for first in range(len(near)):
        if not seen[first]:
            part = sorted(_distances(first, near))
            for node in part:
                seen[node] = True
            parts.append(part)
    return parts


def _distances(first: int, near: Sequence[dict[int, float]]) -> dict[int, int]:
    """How many edges it is to each."""
    found = {first: 0}
    queue = deque([first])
    while queue:
        node = queue.popleft()
        step = found[node] + 1
        for other in near[node]:
            if other not in found:
                found[other] = step
                queue.append(other)
    return found


# -- one part ---------------------------------------------------------------------------------------------------------


def _place_part(keys: list[str], near: list[dict[int, float]], root: int | None) -> list[Point]:
    """In units of an edge's length."""
    count = len(keys)
    if count == 1:
        return [(0.0, 0.0)]
    linked = sum(map(len, near)) / (count * (count - 1))
    if count <= MAX_CIRCLE and linked >= MIN_CIRCLE_SHARE and min(map(len, near)) >= 2:
        return _circle(keys)
    seeds = [crc32(key.encode()) for key in keys]
    if root is not None and count > MAX_CIRCLE and sum(map(len, near)) == 2 * (count - 1):
        spots = _rings(root, seeds, near)
        if count <= MAX_ALL_PAIRS:
            _settle(spots, _terms(seeds, near), TREE_STEP)
        return [(x, y) for x, y in spots]
    terms = _terms(seeds, near)
    tries = []
    for turn in range(STARTS if count <= MAX_CIRCLE else 1):
        spots = _begin([crc32(b"%d" % turn, seed) for seed in seeds])
        _settle(spots, terms, math.inf)
        tries.append(spots)
    best = min(tries, key=lambda tried: _stress(tried, terms))
    return _turn([(x, y) for x, y in best], seeds)


def _circle(keys: list[str]) -> list[Point]:
    """In the order of the keys, the first at the top; neighbors on it are one length apart."""
    count = len(keys)
    radius = 0.5 / math.sin(math.pi / count)
    spots: list[Point] = [(0.0, 0.0)] * count
    for at, node in enumerate(sorted(range(count), key=keys.__getitem__)):
        angle = 2 * math.pi * at / count
        spots[node] = (radius * math.sin(angle), -radius * math.cos(angle))
    return spots


def _begin(seeds: list[int]) -> list[list[float]]:
    """In a disk, by the nodes' hashes alone."""
    reach = math.sqrt(len(seeds)) / 2
    spots = []
    for seed in seeds:
        angle, away = (seed & 0xFFFF) / 0x10000 * 2 * math.pi, math.sqrt((seed >> 16) / 0x10000)
        spots.append([reach * away * math.cos(angle), reach * away * math.sin(angle)])
    return spots


def _rings(root: int, seeds: list[int], near: list[dict[int, float]]) -> list[list[float]]:
    """A tree: in the middle the root, each node as far out as it is away, in a sector as wide as what is behind it.

    All is turned so that the root's neighbors are near the angles that their hashes name, in whose order they are.
    """
    order = list(_distances(root, near).items())
    before = {root: root}
    for node, _ in order:
        before.update((other, node) for other in near[node] if other not in before)
    weight = [1.0] * len(seeds)
    for node, _ in reversed(order):
        if node != root:
            weight[before[node]] += weight[node]
    begins, spots = {root: 0.0}, [[0.0, 0.0] for _ in seeds]
    slant_x = slant_y = 0.0
    for node, steps in order:
        share = 2 * math.pi * weight[node] / weight[root]
        angle = begins[node] + share / 2
        spots[node] = [steps * math.cos(angle), steps * math.sin(angle)]
        begin = begins[node]
        for child in sorted((other for other in near[node] if before[other] == node != other), key=seeds.__getitem__):
            begins[child] = begin
            wide = 2 * math.pi * weight[child] / weight[root]
            if node == root:
                off = 2 * math.pi * seeds[child] / 2**32 - begin - wide / 2
                slant_x, slant_y = slant_x + wide * math.cos(off), slant_y + wide * math.sin(off)
            begin += wide
    turned = _rotated([(x, y) for x, y in spots], math.atan2(slant_y, slant_x))
    return [[x, y] for x, y in turned]


def _terms(seeds: list[int], near: list[dict[int, float]]) -> list[tuple[int, int, float]]:
    """Pairs and how far apart they should be, in an order that does not depend on the graph."""
    count = len(seeds)
    wanted: dict[tuple[int, int], float] = {}
    order = sorted(range(count), key=seeds.__getitem__)
    for pivot in order if count <= MAX_ALL_PAIRS else order[:PIVOTS]:
        for other, steps in _distances(pivot, near).items():
            if other != pivot:
                wanted[(pivot, other) if pivot < other else (other, pivot)] = float(steps)
    for one, others in enumerate(near):
        for other, length in others.items():
            if one < other:
                wanted[one, other] = length
    terms = [(one, other, distance) for (one, other), distance in wanted.items()]
    terms.sort(key=lambda term: ((seeds[term[0]] ^ seeds[term[1]]) * 2654435761 & 0xFFFFFFFF, term))
    return terms


def _stress(spots: list[list[float]], terms: list[tuple[int, int, float]]) -> float:
    """How badly the distances fit."""
    return sum((math.dist(spots[one], spots[other]) / distance - 1) ** 2 for one, other, distance in terms)


def _settle(spots: list[list[float]], terms: list[tuple[int, int, float]], first_step: float) -> None:
    """Move each pair towards its distance, boldly at first, near pairs more insistently than far ones."""
    step, last = min(first_step, max(term[2] for term in terms) ** 2), LAST_STEP
    most = max(ROUNDS, min(MAX_ROUNDS, FEW_MOVES // len(terms)))
    rounds = max(MIN_ROUNDS, min(most, MAX_MOVES // len(terms)))
    shrink = (last / step) ** (1 / (rounds - 1)) if step > last else 1.0
    sqrt = math.sqrt
    for turn in range(rounds):
        start = turn * len(terms) // rounds  # begin elsewhere in each round
        for one, other, distance in terms[start:] + terms[:start]:
            a, b = spots[one], spots[other]
            dx, dy = a[0] - b[0], a[1] - b[1]
            apart = sqrt(dx * dx + dy * dy)
            if apart < 1e-9:
                dx, apart = 1e-3, 1e-3
            pull = step / (distance * distance)
            move = (0.5 if pull > 1.0 else 0.5 * pull) * (apart - distance) / apart
            dx *= move
            dy *= move
            a[0] -= dx
            a[1] -= dy
            b[0] += dx
            b[1] += dy
        step *= shrink


def _turn(spots: list[Point], seeds: list[int]) -> list[Point]:
    """Turned, and mirrored if need be: a long shape lies flat, a round one as near as it can to where the hashes of its
    nodes would have them. So it does not turn with every change.
    """
    count = len(spots)
    mx, my = sum(x for x, _ in spots) / count, sum(y for _, y in spots) / count
    centred = [(x - mx, y - my) for x, y in spots]
    goals = _begin(seeds)
    xx, yy = sum(x * x for x, _ in centred), sum(y * y for _, y in centred)
    xy = sum(x * y for x, y in centred)
    if xx + yy > 1e-12 and math.hypot(xx - yy, 2 * xy) >= MIN_LENGTHINESS * (xx + yy):
        lying = _rotated(centred, -0.5 * math.atan2(2 * xy, xx - yy))
        if math.hypot(xx - yy, 2 * xy) >= LINE * (xx + yy):
            lying = [(x, 0.0) for x, _ in lying]
        return max((_mirrored(lying, across, along) for across in (1, -1) for along in (1, -1)), key=_fit(goals))
    tries = []
    for side in (1, -1):
        shape = _mirrored(centred, 1, side)
        dot = sum(x * goal[0] + y * goal[1] for (x, y), goal in zip(shape, goals, strict=True))
        cross = sum(x * goal[1] - y * goal[0] for (x, y), goal in zip(shape, goals, strict=True))
        tries.append(_rotated(shape, math.atan2(cross, dot)))
    return max(tries, key=_fit(goals))


def _rotated(spots: list[Point], angle: float) -> list[Point]:
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in spots]


def _mirrored(spots: list[Point], across: int, along: int) -> list[Point]:
    return [(across * x, along * y) for x, y in spots]


def _fit(goals: list[list[float]]) -> Callable[[list[Point]], float]:
    return lambda spots: sum(x * goal[0] + y * goal[1] for (x, y), goal in zip(spots, goals, strict=True))


# -- boxes ------------------------------------------------------------------------------------------------------------


def _scale(spots: list[Point], boxes: list[Box], spacing: float) -> list[Point]:
    """To pixels: ``spacing`` for an edge, or more where the boxes need the room."""
    width = max(x for x, _ in spots) - min(x for x, _ in spots)
    height = max(y for _, y in spots) - min(y for _, y in spots)
    needed = ROOM * sum(2 * box.half * (box.above + box.below) for box in boxes)
    scale = max(spacing, math.sqrt(needed / (0.75 * (width + 1) * (height + 1))))  # half an edge around it is its own
    wide = STRETCH if len(spots) > MAX_CIRCLE else 1.0
    return [(x * scale * wide, y * scale) for x, y in spots]


def _push_apart(spots: list[Point], boxes: list[Box]) -> list[Point]:
    """Until no two boxes overlap, or for so many rounds. Each pair moves along the axis where less is needed."""
    if len(spots) < 2:
        return spots
    at = [[x, y] for x, y in spots]
    wide, high = 2 * max(box.half for box in boxes), max(box.above + box.below for box in boxes)
    looks = 0
    for _ in range(PUSHES):
        cells: dict[tuple[int, int], list[int]] = {}
        for node, (x, y) in enumerate(at):
            cells.setdefault((math.floor(x / wide), math.floor(y / high)), []).append(node)
        pushed = False
        looks += sum(len(cell) ** 2 for cell in cells.values()) * 4  # half of the nine cells around
        for one, (x, y) in enumerate(at):
            column, row = math.floor(x / wide), math.floor(y / high)
            for cell in ((column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                for other in cells.get(cell, ()):
                    if one < other and _push(at[one], at[other], boxes[one], boxes[other]):
                        pushed = True
        if not pushed or looks > MAX_LOOKS:
            break
    return [(x, y) for x, y in at]


def _push(a: list[float], b: list[float], one: Box, other: Box) -> bool:
    dx, dy = b[0] - a[0], b[1] - a[1]
    across = one.half + other.half - abs(dx)
    if across <= 0.01:
        return False
    along = (one.below + other.above if dy >= 0 else other.below + one.above) - abs(dy)
    if along <= 0.01:
        return False
    if across < along:
        move = across / 2 if dx >= 0 else -across / 2
        a[0] -= move
        b[0] += move
    else:
        move = along / 2 if dy >= 0 else -along / 2
        a[1] -= move
        b[1] += move
    return True


def _pack(places: list[Point], parts: list[list[int]], boxes: Sequence[Box]) -> list[Point]:
    """The parts beside each other, the largest first, in rows about as wide as it; single nodes below all others."""
    packed = list(places)
    row_width, x, y, row_height, before = 0.0, 0.0, 0.0, 0.0, 0
    for part in parts:
        left = min(places[node][0] - boxes[node].half for node in part)
        right = max(places[node][0] + boxes[node].half for node in part)
        top = min(places[node][1] - boxes[node].above for node in part)
        bottom = max(places[node][1] + boxes[node].below for node in part)
        width, height = right - left, bottom - top
        row_width = row_width or max(width, 600.0)
        singles_begin = len(part) == 1 and before > 1
        before = len(part)
        if x > 0 and (x + width > row_width or singles_begin):
            x, y, row_height = 0.0, y + row_height + GAP, 0.0
        for node in part:
            packed[node] = (places[node][0] - left + x, places[node][1] - top + y)
        x, row_height = x + width + GAP, max(row_height, height)
    return packed
