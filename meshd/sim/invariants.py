"""What must hold, whatever the world does. Each is a function that yields what it finds wrong.

Three tables: what is checked at every step, what is checked now and then, what must hold once the world has come to
rest. The name of an invariant is its function's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from meshd.core import commands as cm
from meshd.core.delivery.keeping import Keeping
from meshd.core.delivery.kept_rows import key_of
from meshd.core.node import Node
from meshd.core.overlay.neighbors import LinkState
from meshd.ids import PREFIX_SIZE, PeerId
from meshd.sim.history import History, Said, Step
from meshd.sim.limits import LIMITS, TIMERS_BESIDE, TIMERS_PER_MEMBER, containers
from meshd.sim.machine import Machine
from meshd.sim.network import EPOCH
from meshd.wire import messages as ms
from meshd.wire.broadcasting import RECORD_NEWS
from meshd.wire.record import Record, decode_record

# Policy
FAREWELL_TIME = 30.0  # seconds a member that has left may still be talked to: until its neighbors notice
CLOCK_SLACK = 1200.0  # seconds that clocks and grace make of a certificate's end
MAX_LINKS_OF_A_PAIR = 2  # the current one and its successor
# Seconds, and pushes of one run of a daemon to one peer, answers not counted; but what is owed to the peer's own pushes
# (three at most) may be used for a call of ours.
PUSH_BUDGETS = ((600.0, 14 + 3), (86400.0, 50 + 3))
NEWS_TIME = 20.0  # seconds from a link's coming up until all have surely heard of it, or of its death
MAX_REQUEST_TIME = 630.0  # seconds: the longest join, and a little

StepCheck = Callable[[Step, History], Iterator[str]]
Check = Callable[[History], Iterator[str]]


# -- at every step ----------------------------------------------------------------------------------------------------


def strangers_are_told_nothing(step: Step, history: History) -> Iterator[str]:
    """Nobody without a valid chain gets a record, a message or somebody's envelope; nor is anything relayed for one."""
    for said in step.said:
        joining = isinstance(said.message, ms.JoinRequest | ms.JoinAccepted | ms.JoinRefused)
        polite = isinstance(said.message, ms.Hello | ms.Goodbye)
        if not joining and not polite and not _is_member(said.to, history):
            yield f"{_who(step)} says {type(said.message).__name__} to a stranger"
    for sender, neighbor in step.passed_on:
        if not _is_member(sender, history) or not _is_member(neighbor, history):
            yield f"{_who(step)} relays for, or to, a stranger"


def _is_member(peer: PeerId, history: History) -> bool:
    now = history.network.now
    if peer in history.farewells and history.farewells[peer] + FAREWELL_TIME < now:
        return False
    return history.valid_until(peer) + CLOCK_SLACK > EPOCH + now


def acknowledged_is_kept(step: Step, history: History) -> Iterator[str]:
    """What is acknowledged to its sender was on the receiver's disk before, and is delivered once."""
    machine = step.machine
    for said in step.said:
        receipt = isinstance(said.message, ms.KeptTaken) and bool(said.message.receipt)
        if isinstance(said.message, ms.Acknowledgement) or receipt:
            for message in (said.message.message,) if receipt else said.message.messages:
                kept = message in machine.disk["inbox"] or message in history.kept.get(machine.index, ())
                if not kept:
                    yield f"{_who(step)} acknowledges {message.hex()[:8]}, which is not on its disk"
    for command in step.commands:
        if isinstance(command, cm.DeliverMessage):
            message = command.message["message_id"]
            if history.delivered[machine.index, message] > 1:
                yield f"{_who(step)} delivers {message.hex()[:8]} again"
            if message not in history.kept.get(machine.index, ()):
                yield f"{_who(step)} delivers {message.hex()[:8]} before it is on the disk"


def nothing_before_its_disk(step: Step, history: History) -> Iterator[str]:
    """Nothing leaves that a kill could make untrue: numbers, admissions, memberships, messages, answers."""
    for said in step.said:
        yield from (f"{_who(step)}: {problem}" for problem in _not_durable(said, step.machine, history))
    for command in step.commands:
        minted = command.result.get("introduction_id") if isinstance(command, cm.Respond) else None
        if minted is not None and minted not in step.machine.disk["introductions"]:
            yield f"{_who(step)}: a token is handed out that the disk does not have"


def _not_durable(said: Said, machine: Machine, history: History) -> Iterator[str]:
    match said.message:
        case ms.Records() | ms.News():
            for data in _records_in(said.message):
                if history.told.get(data) != machine.index:  # the same news goes to many at once
                    history.told[data] = machine.index
                    yield from _record_not_durable(decode_record(data), machine, history)
        case ms.Hello() if not machine.disk["mesh"] and machine.peer not in history.left:
            yield "a hello before the membership is on the disk"
        case ms.JoinAccepted() if not _admission_durable(said, machine):
            yield "an acceptance before the admission is on the disk"
        case ms.JoinAccepted():
            yield from _record_not_durable(decode_record(said.message.record), machine, history)
        case ms.ApplicationMessage() if said.message.message not in machine.disk["outbox"]:
            yield "a message that is not in the outbox on the disk"
        case ms.MessageDeposit() if said.message.message not in machine.disk["outbox"]:
            yield "a deposit that is not in the outbox on the disk"
        case ms.DepositKept() if not _keeps(said, machine):
            yield "a promise to keep what is not on the disk"
        case ms.Answer() if said.to + said.session not in machine.disk["seen"]:
            yield "an answer before the replay memory is on the disk"


def _records_in(message: ms.Records | ms.News) -> tuple[bytes, ...]:
    if isinstance(message, ms.Records):
        return message.records
    return tuple(item.body for item in message.items if item.kind == RECORD_NEWS)


def _keeps(said: Said, machine: Machine) -> bool:
    """Whether the disk of an honest keeper has what it says that it keeps."""
    key = key_of(said.to, said.message.recipient, said.message.message)
    return key in machine.disk["kept_messages"] or _is_false(machine)


def _is_false(machine: Machine) -> bool:
    """Whether that is a keeper that a scenario has made lie."""
    return machine.node is not None and type(machine.node.keeping) is not Keeping


def _admission_durable(said: Said, machine: Machine) -> bool:
    disk = machine.disk
    known = said.to in disk["admitted"] or said.to in disk["records"]
    return known and said.to + said.session in disk["seen"]


def _record_not_durable(record: Record, machine: Machine, history: History) -> Iterator[str]:
    """Others' records speak for themselves; our own number must never be used again."""
    if record.peer in history.hostile:
        return
    if history.numbers.setdefault((record.peer, record.number), record.encoded) != record.encoded:
        yield f"number {record.number} of {record.name} is used for a second record"
    if record.peer != machine.peer or record.departed:
        return
    kept = machine.disk["records"].get(record.peer)
    if kept is None or decode_record(kept).number < record.number:
        yield f"its record {record.number} leaves before it is on the disk"


def tokens_are_used_up(step: Step, history: History) -> Iterator[str]:
    """A token admits no more joiners than its uses, over kills."""
    for said in step.said:
        if isinstance(said.message, ms.JoinAccepted) and said.session in history.asked:
            introduction = history.asked[said.session][0]
            joined, uses = history.joined.get(introduction, set()), history.uses.get(introduction, 0)
            if len(joined) > uses:
                yield f"{_who(step)}: a token of {uses} uses has admitted {len(joined)}"


def pushes_are_rare(step: Step, history: History) -> Iterator[str]:
    """No push offers a link where links of others lead there; no peer is pushed to more often than its budget."""
    now = history.network.now
    for said in step.said:
        if said.way != "push" or step.machine.store_fails:  # with a full disk it cannot take part in signaling
            continue
        if said.to in history.hostile:  # which of the doubles it has links with is not known
            continue
        offered = isinstance(said.message, ms.Offer) or (
            isinstance(said.message, ms.Answer) and said.session not in history.offered_by_push
        )
        first = said.session not in history.pushed
        history.pushed.add(said.session)
        if offered and first and _linked_for_long(step.machine, said.to, history):
            yield f"{_who(step)} pushes its {type(said.message).__name__.lower()} though there is a path"
        times = history.pushes.get((step.machine.index, step.machine.boot, said.to), [])
        for window, most in PUSH_BUDGETS:
            if sum(1 for when in times if when > now - window) > most:
                yield f"{_who(step)} pushes more than {most} times in {window:.0f} s to one peer"


def _linked_for_long(machine: Machine, peer: PeerId, history: History) -> bool:
    """Whether links that have been up for a while, so that everybody has heard of them, lead from here to there."""
    seen, queue = {machine.peer}, [machine.peer]
    for at in queue:
        here = history.machine_of(at)
        node = None if here is None else here.node
        for neighbor in () if node is None else node.neighbors.peers():
            link = node.neighbors.current(neighbor) if node is not None else None
            there = history.machine_of(neighbor)
            lasting = link is not None and link.neighbor_since < history.network.now - NEWS_TIME
            mutual = there is not None and there.node is not None and there.node.neighbors.current(at) is not None
            if lasting and mutual and neighbor not in seen:
                seen.add(neighbor)
                queue.append(neighbor)
    return peer in seen


# -- now and then -----------------------------------------------------------------------------------------------------


def neighbors_are_members(history: History) -> Iterator[str]:
    """Nobody without a valid chain is anybody's neighbor."""
    for machine, node in history.network.running():
        for peer in node.neighbors.peers():
            if not _is_member(peer, history):
                yield f"n{machine.index} keeps a stranger as its neighbor"


def links_are_few(history: History) -> Iterator[str]:
    """Between two peers there is one link, and at most one that is to take its place."""
    for machine, node in history.network.running():
        links = node.neighbors.links()
        of_pairs = Counter(link.peer for link in links)
        up = Counter(link.peer for link in links if link.state is LinkState.UP)
        if node.joining.active or node.joining.pasted:
            continue  # two tries at a time, each with its own description
        for peer, count in of_pairs.items():
            if count > MAX_LINKS_OF_A_PAIR or up[peer] > 1:
                yield f"n{machine.index} has {count} links ({up[peer]} up) to one peer"


def containers_are_bounded(history: History) -> Iterator[str]:
    """Every queue and map is within its named limit, and has one."""
    for machine, node in history.network.running():
        for name, size in containers(node):
            limit = LIMITS.get(name)
            if limit is None:
                yield f"{name} has no limit in meshd.sim.limits"
            elif size > limit(machine.config):
                yield f"n{machine.index}: {name} holds {size}, of {limit(machine.config)}"


def requests_end(history: History) -> Iterator[str]:
    """Nobody waits for an answer for longer than the longest request may take."""
    for _, index, when, method in history.open_requests():
        if history.network.now > when + MAX_REQUEST_TIME:
            yield f"n{index} has not answered {method} for {history.network.now - when:.0f} s"


# -- at rest ----------------------------------------------------------------------------------------------------------


def all_know_all(history: History) -> Iterator[str]:
    """Every running member knows every running member, and has a way to it; each knows its newest record and links."""
    members = _members(history)
    for machine, node in members:
        for other, there in members:
            if other is machine:
                continue
            record, own = node.membership.record(other.peer), there.membership.own_record
            if record is None or own is None:
                yield f"n{machine.index} does not know n{other.index}"
            elif record.number != own.number:
                yield f"n{machine.index} knows n{other.index} as it was: {record.number}, not {own.number}"
            elif node.link_states.of(own.peer[:PREFIX_SIZE]) != there.link_states.own:
                yield f"n{machine.index} knows the links of n{other.index} as they were"
            elif node.routing.next_hop(other.peer) is None:
                yield f"n{machine.index} has no way to n{other.index}"


def mesh_is_full(history: History) -> Iterator[str]:
    """While the mesh is small, every pair that can connect has a link."""
    members, network = _members(history), history.network
    for machine, node in members:
        if len(node.membership) > machine.config.mesh.max_full_mesh:
            if len(members) > 1 and not len(node.neighbors):
                yield f"n{machine.index} has no link at all"
            continue
        for other, _ in members:
            possible = other.index > machine.index and not network.unconnectable(machine.index, other.index)
            if possible and node.neighbors.current(other.peer) is None:
                yield f"n{machine.index} and n{other.index} have no link"


def ends_agree(history: History) -> Iterator[str]:
    """Both ends of a pair take the same link for the current one, and each shell has the links that its node has."""
    for machine, node in history.network.running():
        for peer in node.neighbors.peers():
            link, other = node.neighbors.current(peer), history.machine_of(peer)
            end = None if link is None else machine.ends.get(link.id)
            across = None if end is None else end.other
            theirs = None if other is None or other.node is None else other.node.neighbors.current(machine.peer)
            if other is None or across is None or theirs is None or across.link != theirs.id:
                yield f"n{machine.index} holds a link that n{other.index if other else '?'} does not"
        known = {link.id for link in node.neighbors.links()}
        stray = [link for link in machine.ends if link not in known and not node.outlook.is_ours(link)]
        if stray:
            yield f"n{machine.index} has forgotten {len(stray)} links that its shell still keeps"


def nothing_is_left_over(history: History) -> Iterator[str]:
    """No session, write or request is under way, and timers are as many as members explain."""
    for machine, node in history.network.running():
        dialed = [s for s in node.signaling.sessions() if not _hopeless(machine, s.peer, history)]
        if dialed:
            yield f"n{machine.index} has {len(dialed)} sessions"
        sizes = dict(containers(node))
        for name in ("Context._unwritten", "Arrivals._arrivals", "Peering._strangers", "Inbox._arriving"):
            if sizes.get(name):
                yield f"n{machine.index}: {name} holds {sizes[name]}"
        timers, bound = node.timer_count(), TIMERS_BESIDE + TIMERS_PER_MEMBER * len(node.membership)
        if timers > bound:
            yield f"n{machine.index} has {timers} timers, of {bound}"
    for _, index, _, method in history.open_requests():
        yield f"n{index} owes an answer to {method}"


def _hopeless(machine: Machine, peer: PeerId, history: History) -> bool:
    """Whether a link to that peer can only be tried in vain just now: it does not run, or the pair never connects."""
    other = history.machine_of(peer)
    return other is None or other.node is None or history.network.unconnectable(machine.index, other.index)


def messages_have_arrived(history: History) -> Iterator[str]:
    """Nothing waits for a member that runs; what was acknowledged to its sender was kept."""
    for machine, node in _members(history):
        for peer in node.outbox.waiting_peers():
            other = history.machine_of(peer)
            if other is not None and other.node is not None and other.node.membership.row is not None:
                yield f"n{machine.index} still has messages for n{other.index}"
        for peer in () if _is_false(machine) else node.keeping.addressees():
            other = history.machine_of(peer)
            if other is not None and other.node is not None and other.node.membership.row is not None:
                yield f"n{machine.index} still keeps something for n{other.index}"


def names_tell_apart(history: History) -> Iterator[str]:
    """Names are unique; where two introducers gave one at the same time, everybody sees both."""
    members = _members(history)
    truth = Counter(node.membership.name for _, node in members)
    for machine, node in members:
        for name, count in truth.items():
            running = {m.peer for m, _ in members}
            seen = sum(1 for peer in node.membership.named(name) if peer in running)
            if seen != count:
                yield f"n{machine.index} sees {seen} members of the name {name}, of {count}"


def joins_take_two_pushes(history: History) -> Iterator[str]:
    """A join that loses no push takes two (only meaningful in a run where none is lost, late or doubled)."""
    conditions = history.network.conditions
    if conditions.push_loss or conditions.push_duplication or conditions.push_latency[1] > 2.0:
        return
    for index, pushes in history.join_pushes.items():
        if Counter(pushes) != Counter(("request", "accepted")):
            yield f"n{index} took {len(pushes)} pushes to join: {' '.join(pushes)}"


def _members(history: History) -> list[tuple[Machine, Node]]:
    return [(machine, node) for machine, node in history.network.running() if node.membership.row is not None]


def _who(step: Step) -> str:
    return f"n{step.machine.index}"


AT_EVERY_STEP: tuple[StepCheck, ...] = (
    strangers_are_told_nothing,
    acknowledged_is_kept,
    nothing_before_its_disk,
    tokens_are_used_up,
    pushes_are_rare,
)
NOW_AND_THEN: tuple[Check, ...] = (neighbors_are_members, links_are_few, containers_are_bounded, requests_end)
AT_REST: tuple[Check, ...] = (
    all_know_all,
    mesh_is_full,
    ends_agree,
    nothing_is_left_over,
    messages_have_arrived,
    names_tell_apart,
)
UNDISTURBED: tuple[Check, ...] = (joins_take_two_pushes,)  # where nobody was killed and no push delayed
