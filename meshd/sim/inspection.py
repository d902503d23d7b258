"""The state of any machine at any moment, for people: what it has, waits for, and has done last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.node import Node
from meshd.ids import PeerId, short
from meshd.sim.limits import LIMITS, containers
from meshd.sim.machine import Machine
from meshd.sim.network import EPOCH, Network
from meshd.wire import messages as ms

# Policy
MAX_SHOWN = 24  # rows of anything that has one for each member
MAX_CHARS = 110  # of an event

_FIXARRAY, _ARRAY16, _UINT8 = 0x90, 0xDC, 0xCC  # msgpack


def kind_of(data: bytes) -> str:
    """The name of a link message's class, by its first bytes alone."""
    at = 1 if data[0] & 0xF0 == _FIXARRAY else 3 if data[0] == _ARRAY16 else 0
    number = data[at + 1] if at and data[at] == _UINT8 else data[at]
    known = ms.LINK_MESSAGES.get(number) if at else None
    return f"message {number}" if known is None else known.__name__


def told(thing: ev.Event | cm.Command) -> str:
    """An event or a command in a few words."""
    if isinstance(thing, ev.MessageReceived | cm.SendMessage):
        return f"{type(thing).__name__}({kind_of(thing.data)}, {len(thing.data)} bytes, link {thing.link})"
    if isinstance(thing, cm.Persist):
        rows = Counter(f"{type(change).__name__} {change.table}" for change in thing.changes)
        return f"Persist({', '.join(f'{count} {row}' for row, count in rows.items())})"
    return repr(thing)[:MAX_CHARS]


def last_events(machine: Machine) -> Iterator[str]:
    """The last that its node has handled, and what came of each."""
    for when, event, commands in machine.recent or ():
        yield f"{when:12.4f} n{machine.index} {told(event)}"
        done = Counter(told(command) for command in commands)
        for command, count in done.items():
            yield f"{'':14}→ {command}{f' ({count} times)' if count > 1 else ''}"


def state_of(network: Network, index: int) -> Iterator[str]:
    """Everything about one machine, line by line."""
    machine = network.machines[index]
    clock = EPOCH + network.now + machine.skew
    yield f"n{index} at {network.now:.4f} s (Unix {clock:.1f} by its clock), boot {machine.boot}"
    node = machine.node
    if node is None:
        yield "  its daemon does not run"
        return
    names: dict[bytes, str] = {other.peer: f"n{other.index}" for other in network.machines}
    yield f"  links that carry: {', '.join(f'n{other}' for other in sorted(network.links.across(machine))) or 'none'}"
    yield from inside(node, names, network.now)
    yield f"  disk: {len(machine.writes)} writes under way; {_rows(machine)}"
    yield from (f"  {line}" for line in ("last events:", *last_events(machine)))


def inside(node: Node, names: Mapping[bytes, str], now: float) -> Iterator[str]:
    """Everything about one node; ``names`` for people of ids, ``now`` by its monotonic clock."""
    yield from _membership(node)
    yield from _neighbors(node, names)
    yield from _routes(node, names)
    yield from _timers(node, names, now)
    yield from _containers(node)
    yield from _counters(node)


def _named(node: Node, names: Mapping[bytes, str], peer: PeerId) -> str:
    return names.get(peer) or node.membership.name_of(peer) or short(peer)


def _membership(node: Node) -> Iterator[str]:
    own = node.membership.own_record
    if own is None:
        yield "  a member of no mesh"
    else:
        rights, members = node.membership.rights, len(node.membership)
        yield f"  member {own.name}, {rights!r}; own record {own.number}; knows {members} members"


def _neighbors(node: Node, names: Mapping[bytes, str]) -> Iterator[str]:
    yield f"  {len(node.neighbors)} neighbors, {node.neighbors.total()} links:"
    for link in node.neighbors.links():
        other = _named(node, names, link.peer)
        pulse = link.pulse.state.name.lower()
        up = f"up since {link.up_mono:.1f} s" if link.up_mono else "not up yet"
        yield f"    {other:8} link {link.id} {link.state.value}, {up}, pulse {pulse}{', congested' * link.congested}"


def _routes(node: Node, names: Mapping[bytes, str]) -> Iterator[str]:
    hops: Counter[str] = Counter()
    by: Counter[str] = Counter()
    for record in node.membership:
        if record.peer != node._ctx.own_id:
            distance, hop = node.routing.hops(record.peer), node.routing.next_hop(record.peer)
            hops["no way" if distance is None else f"{distance} hops"] += 1
            by["nobody" if hop is None else _named(node, names, hop)] += 1
    yield f"  routes: {', '.join(f'{key}: {count}' for key, count in sorted(hops.items()))}"
    yield f"  by way of: {', '.join(f'{key}: {count}' for key, count in by.most_common(MAX_SHOWN))}"


def _timers(node: Node, names: Mapping[bytes, str], now: float) -> Iterator[str]:
    deadlines = node._ctx.timers._deadlines
    yield f"  {len(deadlines)} timers:"
    first: dict[str, tuple[float, bytes, int]] = {}
    for (name, about), (when, _) in sorted(deadlines.items(), key=lambda item: item[1]):
        soonest, subject, count = first.get(name, (when, about, 0))
        first[name] = (soonest, subject, count + 1)
    for name, (when, about, count) in first.items():
        whom = f"about {names.get(about, about.hex()[:12])}" if about else ""
        yield f"    {name:12} {count:5}, next in {when - now:10.3f} s {whom}"


def _containers(node: Node) -> Iterator[str]:
    yield "  containers that are not empty, and their limits:"
    for name, size in sorted(containers(node)):
        if size:
            limit = LIMITS.get(name)
            yield f"    {name:32} {size:7} of {'no limit!' if limit is None else limit(node._ctx.config)}"


def _counters(node: Node) -> Iterator[str]:
    counters = node.view().status["counters"]
    yield "  counters: " + ", ".join(f"{name} {count}" for name, count in sorted(counters.items()))


def _rows(machine: Machine) -> str:
    """How many rows its disk has in each table."""
    rows = [f"{table} {len(contents)}" for table, contents in machine.disk.items() if contents]
    return ", ".join(rows) or "nothing is kept on it"
