"""The mesh as it is drawn: members and links with everything that decides how they look, names made harmless."""

from __future__ import annotations

from typing import Any, NamedTuple

from meshctl import durations, render

# Policy
MAX_LABEL_CHARS = 20  # of a name beside its node; all of it is in the tooltip
FAST, SLOW = 0.02, 0.1  # seconds: round trips up to the first are drawn thick, beyond the second thin

# What an edge is, in the order of drawing: the last lie on top. See ``svg`` for how they look.
CLAIM, OTHERS, WAY, TURN, NAT, HOST = "claim", "others", "way", "turn", "nat", "host"
KINDS = (CLAIM, OTHERS, WAY, TURN, NAT, HOST)
OWN_KINDS = (TURN, NAT, HOST)


class Member(NamedTuple):
    """``key`` is the id: places and orders go by it, so that a new name moves nothing."""

    key: str
    name: str
    state: str  # self, neighbor, reachable, unreachable
    admin: bool
    keeps: bool
    remark: str  # what stands below the name
    facts: tuple[str, ...]  # the tooltip, a line each

    @property
    def label(self) -> str:
        """The name, cut to what there is room for; a star marks admins, as in ``meshctl peers``."""
        short = self.name if len(self.name) <= MAX_LABEL_CHARS else self.name[: MAX_LABEL_CHARS - 1] + "…"
        return f"{short} *" if self.admin else short


class Edge(NamedTuple):
    """Between the members at those places. ``pace``: 3 fast, 2 middling or unknown, 1 slow; ``time``: in words."""

    one: int
    other: int
    kind: str
    pace: int
    text: str  # for a tooltip
    time: str = ""  # there and back


class Picture(NamedTuple):
    """``title`` and ``summary`` are sentences for people, also for those who cannot see the drawing."""

    title: str
    summary: str
    members: list[Member]
    edges: list[Edge]


def picture_of(graph: dict[str, Any]) -> Picture:
    """From the result of ``mesh.graph``."""
    entries = graph["members"]
    names = [_harmless(entry["name"]) or _harmless(entry["short_id"]) for entry in entries]
    members = [_member(entry, names[number], names) for number, entry in enumerate(entries)]
    own = next((number for number, entry in enumerate(entries) if entry["state"] == "self"), None)
    ways = {
        (min(number, entry["before"]), max(number, entry["before"]))
        for number, entry in enumerate(entries)
        if entry["before"] is not None
    }
    edges = [_claim(one, other, names) for one, other in graph["claims"]]
    for one, other in graph["links"]:
        if own in (one, other):
            edges.append(_own(one, other, entries[other if one == own else one], names))
        else:
            kind = WAY if (min(one, other), max(one, other)) in ways else OTHERS
            edges.append(Edge(one, other, kind, 2, f"{names[one]} to {names[other]}"))
    edges.sort(key=lambda edge: (KINDS.index(edge.kind), members[edge.one].key, members[edge.other].key))
    return Picture(_harmless(graph["mesh_name"]), _summary(graph, members, own), members, edges)


def _harmless(text: str) -> str:
    """On one line, without what could steer a terminal or is forbidden in XML 1.0."""
    return render.clean(text).replace("\ufffe", "").replace("\uffff", "")


def _member(entry: dict[str, Any], name: str, names: list[str]) -> Member:
    facts = [name, entry["peer_id"]]
    remark = ""
    state = entry["state"]
    if state == "self":
        facts.append("this node")
        remark = "this node"
    elif state == "neighbor":
        link = entry["link"]
        rtt = "" if not link or link["rtt"] is None else durations.tight(link["rtt"])
        remark = rtt
        up = "" if entry["since"] is None else f", up {render.ago(entry['since'])}"
        facts.append(f"linked: {_how(link)}{f', {rtt} there and back' if rtt else ''}{up}")
    elif state == "reachable":
        before = entry["before"]
        last = "" if before is None else f" over {names[before]}"
        remark = "" if before is None else f"via {names[before]}"[: MAX_LABEL_CHARS + 4]
        facts.append(f"reached{last}" + ("" if entry["hops"] is None else f", {entry['hops']} links away"))
    else:
        remark = "unreachable"
        facts.append(f"unreachable; its last record was signed {render.ago(entry['record_at'])} ago")
    does = [word for word, whether in (("admin", entry["admin"]), ("keeper", entry["keeps"])) if whether]
    if not entry["relays"]:
        does.append("does not relay")
    facts += [", ".join(does), _harmless(entry["version"] or "")]
    facts = [fact for fact in facts if fact]
    return Member(entry["peer_id"], name, state, entry["admin"], entry["keeps"], remark, tuple(facts))


def _claim(one: int, other: int, names: list[str]) -> Edge:
    return Edge(one, other, CLAIM, 2, f"{names[one]} says that it is linked to {names[other]}, which does not")


def _own(one: int, other: int, peer: dict[str, Any], names: list[str]) -> Edge:
    link = peer["link"]
    ends = {link["kind"], link["remote_kind"]} if link else set()
    kind = TURN if "relay" in ends else NAT if ends & {"srflx", "prflx"} else HOST
    rtt = link["rtt"] if link else None
    pace = 2 if rtt is None else 3 if rtt <= FAST else 2 if rtt <= SLOW else 1
    time = "" if rtt is None else durations.tight(rtt)
    text = f"{names[one]} to {names[other]}: {_how(link)}{f', {time} there and back' if time else ''}"
    return Edge(one, other, kind, pace, text, time)


def _how(link: dict[str, Any] | None) -> str:
    """As ``meshctl peers`` puts it, and the family of addresses."""
    if not link:
        return "direct"
    kinds = dict.fromkeys((link["kind"], link["remote_kind"]))
    how = "relay candidate" if "relay" in kinds else "-".join(kinds)
    family = {"ipv4": " over IPv4", "ipv6": " over IPv6"}.get(link["family"] or "", "")
    return how + family


def _summary(graph: dict[str, Any], members: list[Member], own: int | None) -> str:
    count = {
        state: sum(member.state == state for member in members) for state in ("neighbor", "reachable", "unreachable")
    }
    many = "1 member" if len(members) == 1 else f"{len(members)} members"
    links = "1 link" if len(graph["links"]) == 1 else f"{len(graph['links'])} links"
    seen = "" if own is None else f"seen by {members[own].name}, "
    words = {"neighbor": "linked here", "reachable": "over others", "unreachable": "unreachable"}
    how = ", ".join(f"{number} {words[state]}" for state, number in count.items() if number)
    time = render.local_time(graph["time"], "%Y-%m-%d %H:%M")
    return f"{seen}{time}: {many}, {links}{f'; {how}' if how else ''}"
