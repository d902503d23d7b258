"""The picture as SVG: one file without scripts or references, light or dark as the viewer wishes, readable by screen
readers (title and description) and by people who tell colours badly (dashes, shapes and words say the same)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshctl.picture.labels import MAX_LABELLED, Label, box_of, labels_of, named, text_width
from meshctl.picture.layout import Point, place
from meshctl.picture.model import CLAIM, HOST, KINDS, NAT, OTHERS, OWN_KINDS, TURN, WAY, Edge, Member, Picture

# Policy
MAX_WHOLE = 24  # members; beyond that the layout goes by the ways from this node
MAX_SINGLE = 400  # edges that are drawn one by one, with a tooltip each; more of a kind become one line
CLAIM_LENGTH = 1.4  # of an edge that only one end tells of: a member that is down keeps about its place
MARGIN = 28.0
HEAD = 62.0  # height of title and summary
ROW = 24.0  # height of a row of the legend
MIN_WIDTH = 640.0

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', Arial, sans-serif"

# Colours by class, light and dark; after Okabe and Ito, so that no two look alike to colour-blind eyes.
_COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#15181d"),
    "ink": ("#1d2530", "#e8ecf1"),
    "faint": ("#66707d", "#97a2b0"),
    OTHERS: ("#ccd2d9", "#414954"),
    CLAIM: ("#c94f4f", "#d9706c"),
    WAY: ("#9a63b8", "#c08ede"),
    HOST: ("#00916a", "#2cc498"),
    NAT: ("#1f77c9", "#5aa9f2"),
    TURN: ("#d9770a", "#f2a33a"),
    "self": ("#1d2530", "#f4f6f9"),
    "neighbor": ("#1f77c9", "#5aa9f2"),
    "reachable": ("#9a63b8", "#c08ede"),
    "tint": ("#efe4f5", "#382a45"),
    "unreachable": ("#c94f4f", "#d9706c"),
}
_DASHES = {TURN: "7 4", CLAIM: "2 5"}
_STATES = {
    "self": "this node",
    "neighbor": "linked to it",
    "reachable": "reached over others",
    "unreachable": "unreachable",
}
_EDGES = {
    HOST: "direct",
    NAT: "direct, through NAT",
    TURN: "over a TURN server",
    WAY: "way of relayed messages",
    OTHERS: "between others",
    CLAIM: "only one end says so",
}


class _Scale(NamedTuple):
    """How large things are: ``radius`` of a node, ``font`` of its name, ``spacing`` for a link, all in pixels."""

    radius: float
    font: float
    spacing: float
    thin: float  # stroke of links between others

    def of(self, member: Member) -> float:
        """The radius of that one."""
        return self.radius * (1.35 if member.state == "self" else 1.0)


def draw(picture: Picture) -> str:
    """The whole file, in ASCII."""
    members, count = picture.members, len(picture.members)
    scale = (
        _Scale(13, 14, 190, 1.6)
        if count <= 8
        else _Scale(12, 14, 140, 1.4)
        if count <= 24
        else _Scale(10, 13, 120, 1.2)
        if count <= 60
        else _Scale(6.5, 11, 70, 0.8)
        if count <= MAX_LABELLED
        else _Scale(3.6, 11, 40, 0.5)
    )
    written = named(members)
    boxes = [
        box_of(member, scale.of(member), count, scale.font, is_named=number in written)
        for number, member in enumerate(members)
    ]
    own = next((number for number, member in enumerate(members) if member.state == "self"), None)
    spots = place([member.key for member in members], _lengths(picture), boxes, scale.spacing, own)
    legend = _legend(picture)
    spots, drawing = _to_origin(spots, labels_of(picture, spots, scale.of, scale.font), scale, members)
    width = max(MIN_WIDTH, drawing[0] + 2 * MARGIN, text_width(picture.summary, 13) + 2 * MARGIN)
    left = (width - drawing[0]) / 2
    spots = [(x + left, y + MARGIN + HEAD) for x, y in spots]
    labels = labels_of(picture, spots, scale.of, scale.font)
    rows = _flow(legend, width - 2 * MARGIN)
    foot = HEAD + 2 * MARGIN + drawing[1]
    height = foot + ROW * len(rows) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{_escaped(f"The mesh {picture.title}")}</title>',
        f'<desc id="desc">{_escaped(_description(picture))}</desc>',
        f"<style>{_style(scale)}</style>",
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="head" x="{MARGIN:.0f}" y="{MARGIN + 16:.0f}">{_escaped(picture.title)}</text>',
        f'<text class="summary" x="{MARGIN:.0f}" y="{MARGIN + 38:.0f}">{_escaped(picture.summary)}</text>',
        *_edges(picture.edges, spots),
        *(_node(member, spots[number], scale, labels.get(number)) for number, member in enumerate(members)),
        *_legend_drawn(rows, foot),
        "</svg>",
    ]
    return "\n".join(parts).encode("ascii", "xmlcharrefreplace").decode() + "\n"


def _lengths(picture: Picture) -> list[tuple[int, int, float]]:
    """The edges that the layout goes by. Of many members it shows the ways from here, which are a tree: each relay has
    those that are behind it around itself, and what links others lies across. (Else 200 members are a ball of wool.)
    """
    lengths = []
    members = picture.members
    hung: set[int] = set()
    for edge in picture.edges:
        if len(members) <= MAX_WHOLE:
            lengths.append((edge.one, edge.other, CLAIM_LENGTH if edge.kind == CLAIM else 1.0))
        elif edge.kind in (WAY, *OWN_KINDS) or "unreachable" == members[edge.one].state == members[edge.other].state:
            lengths.append((edge.one, edge.other, 1.0))
        elif edge.kind == CLAIM and not {edge.one, edge.other} & hung:
            hung.update(number for number in (edge.one, edge.other) if members[number].state == "unreachable")
            lengths.append((edge.one, edge.other, 1.0))
    return lengths


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _to_origin(
    spots: list[Point], labels: dict[int, Label], scale: _Scale, members: list[Member]
) -> tuple[list[Point], Point]:
    """Moved so that all that is drawn begins at 0, 0; and how far it goes."""
    if not spots:
        return spots, (0.0, 0.0)
    rects = [label.rect for label in labels.values()]
    for (x, y), member in zip(spots, members, strict=True):
        radius = scale.of(member) + 2
        rects.append((x - radius, y - radius, x + radius, y + radius))
    left, top = min(rect[0] for rect in rects), min(rect[1] for rect in rects)
    right, bottom = max(rect[2] for rect in rects), max(rect[3] for rect in rects)
    return [(x - left, y - top) for x, y in spots], (right - left, bottom - top)


def _description(picture: Picture) -> str:
    """For those who cannot see it: who is reached and who is not, by name."""
    sentences = [f"{picture.summary}."]
    for state, words in _STATES.items():
        names = [member.name for member in picture.members if member.state == state]
        if names:
            more = f" and {len(names) - 50} more" if len(names) > 50 else ""
            sentences.append(f"{words[0].upper()}{words[1:]}: {', '.join(names[:50])}{more}.")
    return " ".join(sentences)


# -- edges and nodes --------------------------------------------------------------------------------------------------


def _edges(edges: list[Edge], spots: list[Point]) -> Iterable[str]:
    for kind in KINDS:
        those = [edge for edge in edges if edge.kind == kind]
        if len(those) > MAX_SINGLE:
            path = "".join(f"M{_at(spots[edge.one])}L{_at(spots[edge.other])}" for edge in those)
            yield f'<path class="edge {kind}" d="{path}"/>'
            continue
        for edge in those:
            (x1, y1), (x2, y2) = spots[edge.one], spots[edge.other]
            pace = f" pace{edge.pace}" if kind in OWN_KINDS else ""
            yield (
                f'<line class="edge {kind}{pace}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}">'
                f"<title>{_escaped(edge.text)}</title></line>"
            )


def _at(spot: Point) -> str:
    return f"{spot[0]:.1f} {spot[1]:.1f}"


def _node(member: Member, spot: Point, scale: _Scale, label: Label | None) -> str:
    parts = [f'<g class="node {member.state}"><title>{_escaped(chr(10).join(member.facts))}</title>']
    parts.append(_shape(member, *spot, scale.of(member)))
    if label is not None:
        side = "" if label.anchor == "middle" else f" {label.anchor}"
        for name, text, y in (("name", label.name, label.name_y), ("remark", label.remark, label.remark_y)):
            if text:
                parts.append(f'<text class="{name}{side}" x="{label.x:.1f}" y="{y:.1f}">{_escaped(text)}</text>')
    return "".join([*parts, "</g>"])


def _shape(member: Member, x: float, y: float, radius: float) -> str:
    """A keeper is a square, others are round; this node has a ring, one that is unreachable a cross."""
    if member.keeps:
        side = radius * 1.8
        drawn = (
            f'<rect class="dot" x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}" '
            f'rx="{radius * 0.35:.1f}"/>'
        )
    else:
        drawn = f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
    if member.state == "self":
        drawn += f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{radius * 0.45:.1f}"/>'
    elif member.state == "unreachable":
        arm = radius * 0.42
        drawn += (
            f'<path class="cross" d="M{x - arm:.1f} {y - arm:.1f}L{x + arm:.1f} {y + arm:.1f}'
            f'M{x + arm:.1f} {y - arm:.1f}L{x - arm:.1f} {y + arm:.1f}"/>'
        )
    return drawn


# -- legend -----------------------------------------------------------------------------------------------------------


def _legend(picture: Picture) -> list[tuple[str, str, str]]:
    """What there is in the picture: sort, class, words."""
    entries = []
    for state, words in _STATES.items():
        if any(member.state == state for member in picture.members):
            entries.append(("node", state, words))
    if any(member.keeps for member in picture.members):
        entries.append(("keeper", "plain", "keeper"))
    if any(member.admin for member in picture.members):
        entries.append(("words", "", "* admin"))
    there = {edge.kind for edge in picture.edges}
    entries.extend(("edge", kind, _EDGES[kind]) for kind in reversed(KINDS) if kind in there)
    if any(edge.kind in OWN_KINDS and edge.pace != 2 for edge in picture.edges):
        entries.append(("words", "", "thick: up to 20 ms there and back, thin: more than 100 ms"))
    return entries


def _flow(entries: list[tuple[str, str, str]], width: float) -> list[list[tuple[float, tuple[str, str, str]]]]:
    """In rows, with where each begins."""
    rows: list[list[tuple[float, tuple[str, str, str]]]] = []
    at = width
    for entry in entries:
        room = {"node": 20.0, "keeper": 20.0, "edge": 36.0}.get(entry[0], 0.0) + text_width(entry[2], 12.5) + 26
        if at + room - 26 > width:
            rows.append([])
            at = 0.0
        rows[-1].append((at, entry))
        at += room
    return rows


def _legend_drawn(rows: list[list[tuple[float, tuple[str, str, str]]]], top: float) -> Iterable[str]:
    yield '<g aria-hidden="true">'
    for number, row in enumerate(rows):
        y = top + ROW * (number + 0.5)
        for at, (sort, name, words) in row:
            x = MARGIN + at
            if sort == "node":
                sample = Member("", "", name, admin=False, keeps=False, remark="", facts=())
                yield f'<g class="node {name}">{_shape(sample, x + 7, y, 6.5)}</g>'
                x += 20
            elif sort == "keeper":
                sample = Member("", "", "", admin=False, keeps=True, remark="", facts=())
                yield f'<g class="node plain">{_shape(sample, x + 7, y, 6.5)}</g>'
                x += 20
            elif sort == "edge":
                pace = " pace3" if name in OWN_KINDS else ""
                ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x + 28:.1f}" y2="{y:.1f}"'
                yield f'<line class="edge {name}{pace} sample" {ends}/>'
                x += 36
            yield f'<text class="key" x="{x:.1f}" y="{y + 4.5:.1f}">{_escaped(words)}</text>'
    yield "</g>"


# -- style ------------------------------------------------------------------------------------------------------------


def _style(scale: _Scale) -> str:
    """Classes with plain colours, since not every viewer knows variables; then once more for the dark."""
    shapes = (
        f"text{{font-family:{_FONT}}}"
        ".head{font-size:21px;font-weight:650}.summary{font-size:13px}.key{font-size:12.5px}"
        f".name{{font-size:{scale.font:g}px;font-weight:550}}.remark{{font-size:{scale.font * 0.85:g}px}}"
        ".name,.remark{text-anchor:middle;paint-order:stroke;stroke-width:3.5px;stroke-linejoin:round}"
        "text.start{text-anchor:start}text.end{text-anchor:end}"
        f".edge{{fill:none;stroke-linecap:round;stroke-width:{scale.thin:g}px}}"
        ".pace3{stroke-width:4px}.pace2{stroke-width:2.5px}.pace1{stroke-width:1.3px}"
        f".way{{stroke-width:{scale.thin * 1.5:g}px}}.sample{{stroke-width:2.5px}}"
        f".dot{{stroke-width:{max(1.4, scale.radius / 6):.1f}px}}.ring{{stroke:none}}"
        f".cross{{fill:none;stroke-linecap:round;stroke-width:{max(1.2, scale.radius / 6):.1f}px}}"
        + "".join(f".{kind}{{stroke-dasharray:{dash}}}" for kind, dash in _DASHES.items())
    )
    return f"{shapes}{_colours(0)}@media (prefers-color-scheme:dark){{{_colours(1)}}}"


def _colours(which: int) -> str:
    colour = {name: pair[which] for name, pair in _COLOURS.items()}
    paper = colour["paper"]
    rules = [
        f".paper{{fill:{paper}}}.head,.name{{fill:{colour['ink']}}}.summary,.key,.remark{{fill:{colour['faint']}}}",
        f".name,.remark{{stroke:{paper}}}.dot{{stroke:{paper}}}.ring{{fill:{paper}}}",
        f".self .dot{{fill:{colour['self']}}}.neighbor .dot{{fill:{colour['neighbor']}}}",
        f".unreachable .dot,.plain .dot{{fill:{paper}}}.plain .dot{{stroke:{colour['faint']}}}",
        f".reachable .dot{{stroke:{colour['reachable']};fill:{colour['tint']}}}",
        f".unreachable .dot,.cross{{stroke:{colour['unreachable']}}}",
    ]
    return "".join([*rules, *(f".edge.{kind}{{stroke:{colour[kind]}}}" for kind in KINDS)])
