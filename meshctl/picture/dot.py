"""The picture in the language of Graphviz, for whoever would rather lay it out or colour it otherwise."""

from __future__ import annotations

from meshctl.picture.model import CLAIM, HOST, NAT, OTHERS, OWN_KINDS, TURN, WAY, Edge, Member, Picture

_FILLS = {"self": "#1d2530", "neighbor": "#1f77c9", "reachable": "#efe4f5", "unreachable": "#ffffff"}
_INKS = {"self": "#ffffff", "neighbor": "#ffffff", "reachable": "#1d2530", "unreachable": "#c94f4f"}
_LINES = {HOST: "#00916a", NAT: "#1f77c9", TURN: "#d9770a", WAY: "#9a63b8", OTHERS: "#b4bcc6", CLAIM: "#c94f4f"}
_STYLES = {TURN: "dashed", CLAIM: "dotted"}


def write(picture: Picture) -> str:
    """The whole file. Nodes are numbered, so names are only ever labels."""
    lines = [
        "graph mesh {",
        f"  label={_quoted(f'{picture.title}: {picture.summary}')}; labelloc=t; layout=neato; overlap=prism;",
        '  node [fontname="sans-serif", style=filled]; edge [len=1.5];',
    ]
    lines += [f"  n{number} [{_member(member)}];" for number, member in enumerate(picture.members)]
    lines += [f"  n{edge.one} -- n{edge.other} [{_edge(edge)}];" for edge in picture.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A string of DOT: only quotes and backslashes mean anything in it, and there are no line breaks in names."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _member(member: Member) -> str:
    ink = _INKS[member.state]
    return (
        f"label={_quoted(member.label)}, tooltip={_quoted('; '.join(member.facts))}, "
        f'shape={"box" if member.keeps else "ellipse"}, fillcolor="{_FILLS[member.state]}", fontcolor="{ink}"'
        + (f', color="{ink}"' if member.state == "unreachable" else "")
    )


def _edge(edge: Edge) -> str:
    parts = [f'color="{_LINES[edge.kind]}"', f"tooltip={_quoted(edge.text)}"]
    if edge.kind in OWN_KINDS:
        parts += [f"penwidth={edge.pace}", f"label={_quoted(edge.time)}"]
    if edge.kind in _STYLES:
        parts.append(f"style={_STYLES[edge.kind]}")
    if edge.kind == CLAIM:
        parts.append("dir=forward")
    return ", ".join(parts)
