"""Rows of ``docs/threats.md`` that no other test shows: attackers with real keys of their own, in a simulated mesh.

The attacker is a machine of the simulation whose keys and links the test uses directly, beside its daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from meshd.config import Config, IntroductionsConfig, MeshConfig
from meshd.core import events as ev
from meshd.core.node import Node
from meshd.core.overlay.relay import MESSAGE_RATE
from meshd.core.overlay.routing import MAX_HOPS
from meshd.crypto.admission import Rights, issue
from meshd.errors import Code
from meshd.ids import Instance, MeshId, Now, SessionId
from meshd.sim.network import EPOCH, Network
from meshd.wire import messages as ms
from meshd.wire.envelope import seal
from meshd.wire.introduction import decode_token, encode_token
from meshd.wire.link_state import make_link_state
from meshd.wire.record import RELAYS, make_record

MESH_KEY = b"k" * 32
SESSION = SessionId(b"attacker")


def mesh_of(members: int, machines: int = 4, config: Config | None = None, *unlinkable: set[int]) -> Network:
    """Machine 0 has founded a mesh, the next ones have joined by it and are linked; the rest only run."""
    network = Network(7, machines, config=config)
    network.unconnectable = lambda a, b: {a, b} in unlinkable  # type: ignore[method-assign]
    for index in range(machines):
        network.start(index)
    network.ask(0, "mesh.found", mesh_name="home", name="n0", mesh_key=MESH_KEY)
    for index in range(1, members):
        network.ask(index, "mesh.join", token=mint(network), timeout=120.0)
    network.run(20.0)
    return network


def mint(network: Network, index: int = 0) -> str:
    return str(network.ask(index, "introductions.mint", uses=1)["token"])


def node(network: Network, index: int) -> Node:
    found = network.machines[index].node
    assert found is not None
    return found


def counter(network: Network, index: int, name: str) -> int:
    return int(node(network, index).view().status["counters"].get(name, 0))


def outcome(network: Network, index: int, request: int) -> Code | None:
    network.run(400.0, until=lambda: network.answer(index, request) is not None)
    answer = network.answer(index, request)
    assert answer is not None
    return answer[0]


def mesh_id(network: Network) -> MeshId:
    return MeshId(network.machines[0].suite.identity_of(MESH_KEY))


def unix(network: Network) -> int:
    return int(EPOCH + network.now)


def say(network: Network, attacker: int, victim: int, data: bytes) -> None:
    """Put bytes on the attacker's link to the victim."""
    machine = network.machines[attacker]
    link = next(end.link for end in machine.ends.values() if end.other is not None and end.other.machine == victim)
    network.links.transmit(machine, link, data)


def captured(network: Network, victim: int, wanted: Callable[[ev.Event], bool]) -> list[ev.Event]:
    """From now on: what reaches the victim and is wanted, for playing it again."""
    found: list[ev.Event] = []

    def look(index: int, event: ev.Event) -> ev.Event:
        if index == victim and wanted(event):
            found.append(event)
        return event

    network.transform = look
    return found


def message_in(event: ev.Event) -> object:
    return ms.decode_message(event.data, ms.LINK_MESSAGES) if isinstance(event, ev.MessageReceived) else None


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_admits_as_many_as_it_says_and_no_thief_after_them() -> None:
    network = mesh_of(1)
    token = mint(network)
    network.ask(1, "mesh.join", token=token, timeout=120.0)
    assert outcome(network, 2, network.request(2, "mesh.join", token=token, timeout=120.0)) is Code.TOKEN_USED_UP
    assert len(node(network, 0).membership) == 2


def test_a_token_is_worthless_without_its_secret() -> None:
    network = mesh_of(1)
    token = decode_token(mint(network))
    guessed = encode_token(replace(token, secret=bytes(16)))
    assert outcome(network, 1, network.request(1, "mesh.join", token=guessed, timeout=60.0)) is Code.JOIN_TIMEOUT
    assert len(node(network, 0).membership) == 1
    assert node(network, 0).view().introductions[0]["uses_left"] == 1


def test_a_push_that_is_played_again_changes_nothing() -> None:
    network = mesh_of(1)
    token = mint(network)
    pushes = captured(network, 0, lambda event: isinstance(event, ev.PushReceived))
    network.ask(1, "mesh.join", token=token, timeout=120.0)
    network.run(20.0)
    replayed, sent = counter(network, 0, "envelopes_replayed"), counter(network, 0, "pushes_sent")
    for push in list(pushes):
        network.schedule(0.0, network.machines[0], push)
    network.run(20.0)
    assert pushes
    assert counter(network, 0, "envelopes_replayed") > replayed
    assert counter(network, 0, "pushes_sent") == sent
    assert len(node(network, 0).membership) == 2


# -- links ------------------------------------------------------------------------------------------------------------


def test_a_hello_signed_by_another_than_it_should_ends_the_link() -> None:
    network = mesh_of(1)

    def pose(index: int, event: ev.Event) -> ev.Event:
        hello = message_in(event)
        if index != 0 or not isinstance(hello, ms.Hello) or not isinstance(event, ev.MessageReceived):
            return event
        forged = replace(hello, signature=network.machines[3].suite.sign(b"whatever the binding is"))
        return replace(event, data=ms.encode_message(forged))

    network.transform = pose
    network.request(1, "mesh.join", token=mint(network), timeout=30.0)
    network.run(60.0)
    assert counter(network, 0, "link_hello_forged") > 0
    assert node(network, 0).neighbors.peers() == ()


def test_somebody_in_the_middle_of_dtls_ends_the_link() -> None:
    network = mesh_of(1)

    def intercept(index: int, event: ev.Event) -> ev.Event:
        return replace(event, remote_fingerprint=bytes(32)) if isinstance(event, ev.LinkConnected) else event

    network.transform = intercept
    network.request(1, "mesh.join", token=mint(network), timeout=30.0)
    network.run(60.0)
    assert counter(network, 0, "link_hello_forged") > 0
    assert node(network, 0).neighbors.peers() == ()


def test_a_member_that_sends_garbage_loses_its_link_and_nothing_else_happens() -> None:
    network = mesh_of(3)
    say(network, 1, 0, b"\xc1 is no msgpack")
    network.run(0.5)
    assert counter(network, 0, "messages_malformed") == 1
    assert network.machines[2].peer in node(network, 0).neighbors.peers()


# -- members ----------------------------------------------------------------------------------------------------------


def test_a_member_without_the_right_mints_nothing() -> None:
    network = mesh_of(2, config=Config(introductions=IntroductionsConfig(may_introduce=False)))
    request = network.request(1, "introductions.mint", uses=1)
    assert outcome(network, 1, request) is Code.REFUSED


def test_an_envelope_of_a_stranger_is_delivered_to_nobody() -> None:
    network = mesh_of(2)
    stranger, victim = network.machines[3].suite, network.machines[0]
    body = ms.encode_message(ms.ApplicationMessage(bytes(16), "message", 0, unix(network) + 60, b"let me in"))
    letter = seal(
        stranger,
        mesh_id(network),
        victim.peer,
        victim.suite.sealing_key,
        session=SESSION,
        sequence=1,
        body=body,
        now=Now(0.0, float(unix(network))),
    )
    say(network, 1, 0, ms.encode_message(ms.Forward(MAX_HOPS, letter)))
    network.run(10.0)
    assert counter(network, 0, "envelopes_stranger") == 1
    assert victim.delivered == []


def test_a_false_neighbor_attracts_no_envelopes() -> None:
    network = mesh_of(4, 4, None, {1, 3})  # never linked, so the other end does not list the liar
    network.kill(3)
    away = network.machines[3].peer
    network.run(60.0)
    assert node(network, 0).routing.next_hop(away) is None
    liar = network.machines[1]
    true = node(network, 1).link_states.own
    assert true is not None
    lie = make_link_state(
        liar.suite,
        mesh_id(network),
        number=true.number + 1000,
        issued=unix(network),
        neighbors=(*true.neighbors, away[:8]),
    )
    say(network, 1, 0, ms.encode_message(ms.Records((), (lie.encoded,))))

    def believed() -> bool:
        known = node(network, 0).link_states.of(liar.peer[:8])
        return known is not None and away[:8] in known.neighbors

    assert network.run(5.0, until=believed)
    assert node(network, 0).routing.next_hop(away) is None


def test_a_name_given_twice_is_ambiguous_and_never_a_wrong_receiver() -> None:
    network = mesh_of(3)
    introducer, friend = network.machines[1], network.machines[3].suite
    chain = node(network, 1).membership.chain
    certificate = issue(
        introducer.suite.sign,
        mesh_id(network),
        introducer.peer,
        subject=friend.peer_id,
        name="n0",
        rights=Rights.NONE,
        issued=unix(network),
        expires=unix(network) + 3600,
    )
    record = make_record(
        friend,
        mesh_id(network),
        number=1,
        chain=(*chain, certificate),
        generation=0,
        features=0,
        instance=Instance(b"imposter"),
        issued=unix(network),
        flags=0,
    )
    say(network, 1, 2, ms.encode_message(ms.Records((record.encoded,))))
    network.run(1.0)
    request = network.request(2, "messages.send", peer="n0", body=b"secret", timeout=5.0)
    assert outcome(network, 2, request) is Code.PEER_AMBIGUOUS
    request = network.request(2, "messages.send", peer=network.machines[0].peer.hex(), body=b"secret", timeout=5.0)
    assert outcome(network, 2, request) is Code.PEER_UNKNOWN


def test_membership_ends_with_the_admission() -> None:
    network = mesh_of(2)
    lodger = network.machines[3].suite
    chain = node(network, 0).membership.chain
    certificate = issue(
        network.machines[0].suite.sign,
        mesh_id(network),
        network.machines[0].peer,
        subject=lodger.peer_id,
        name="lodger",
        rights=Rights.NONE,
        issued=unix(network),
        expires=unix(network) + 60,
    )
    record = make_record(
        lodger,
        mesh_id(network),
        number=1,
        chain=(*chain, certificate),
        generation=0,
        features=0,
        instance=Instance(b"lodger_1"),
        issued=unix(network),
        flags=0,
    )
    say(network, 1, 0, ms.encode_message(ms.Records((record.encoded,))))
    network.run(1.0)
    assert node(network, 0).membership.is_member(lodger.peer_id)
    network.run(70.0)
    assert not node(network, 0).membership.is_member(lodger.peer_id)


# -- relays -----------------------------------------------------------------------------------------------------------


def test_a_relay_that_plays_an_envelope_again_delivers_nothing() -> None:
    network = mesh_of(3, 4, None, {1, 2})
    letters = captured(network, 2, lambda event: isinstance(message_in(event), ms.Forward))
    network.ask(1, "messages.send", peer="n2", body=b"once", timeout=20.0)
    replayed = counter(network, 2, "envelopes_replayed")
    for letter in list(letters):
        network.schedule(0.0, network.machines[2], letter)
    network.run(10.0)
    assert letters
    assert counter(network, 2, "envelopes_replayed") > replayed
    assert [message["body"] for message in network.machines[2].delivered] == [b"once"]


def test_a_flood_through_a_relay_ends_at_the_quota() -> None:
    network = mesh_of(3)
    outside = bytes((1, 1)) + mesh_id(network)[:8] + network.machines[2].peer
    relayed = counter(network, 0, "envelopes_relayed")
    for number in range(2000):
        say(network, 1, 0, ms.encode_message(ms.Forward(MAX_HOPS, outside + number.to_bytes(100, "big"))))
    network.run(1.0)
    assert counter(network, 0, "relay_busy") > 0
    assert counter(network, 0, "envelopes_relayed") - relayed <= 4 * MESSAGE_RATE


# -- what one member can use up, and a key in two places --------------------------------------------------------------


def test_one_sender_fills_half_of_an_inbox_and_no_more() -> None:
    network = mesh_of(3, config=Config(mesh=MeshConfig(max_inbox_messages=10)))
    for number in range(10):
        network.request(1, "messages.send", peer="n0", body=b"%d" % number, wait=False)
    network.run(10.0)
    assert len(network.machines[0].delivered) == 5
    network.ask(2, "messages.send", peer="n0", body=b"there is room", timeout=20.0)


def test_a_flood_of_records_is_refused() -> None:
    network = mesh_of(3)
    true = node(network, 1).membership.own_record
    assert true is not None
    for ahead in range(1, 201):
        record = make_record(
            network.machines[1].suite,
            mesh_id(network),
            number=true.number + 1000 + ahead,
            chain=true.chain,
            generation=0,
            features=0,
            instance=true.instance,
            issued=unix(network),
            flags=RELAYS,
        )
        say(network, 1, 0, ms.encode_message(ms.Records((record.encoded,))))
    network.run(1.0)
    assert counter(network, 0, "records_rejected") > 100
    assert network.machines[1].peer in node(network, 0).neighbors.peers()


def test_of_two_daemons_with_one_key_the_later_stands_aside_and_both_say_so() -> None:
    network = mesh_of(3)
    network.kill(3)
    thief, owner = network.machines[3], network.machines[1]
    thief.suite = owner.suite
    thief.disk = {table: dict(rows) for table, rows in owner.disk.items()}
    network.start(3)
    network.run(300.0)
    assert node(network, 3).view().status["twin"] == "aside"
    assert node(network, 1).view().status["twin"] == "kept"
    assert not node(network, 3).neighbors.peers()
    assert {network.machines[0].peer, network.machines[2].peer} == set(node(network, 1).neighbors.peers())
    for machine in (owner, thief):
        alarms = [fields for _, name, fields in machine.notices if name == "identity_doubled"]
        assert len(alarms) == 1
        assert alarms[0]["peer"] == owner.peer
    downs = [when for when, name, _ in network.machines[0].notices if name == "link_down"]
    assert len(downs) <= 8
    assert max(downs) < network.now - 240.0, "it is soon over"
    network.run(3700.0)
    assert counter(network, 3, "stood_aside") == 3, "it has looked again, and the other one was still there"
    assert len(node(network, 1).neighbors.peers()) == 2
    network.kill(1)
    network.run(8000.0)
    assert node(network, 3).view().status["twin"] is None
    assert len(node(network, 3).neighbors.peers()) == 2, "with the first one gone, the second takes its place"


def test_an_old_machine_started_again_stands_aside_for_the_new_one() -> None:
    """Its clock is behind, and its numbers have fallen back."""
    network = mesh_of(3)
    network.kill(3)  # it is told apart by when it was started, not by what it has on its disk
    new, old = network.machines[1], network.machines[3]
    old.suite = new.suite
    old.disk = {table: dict(rows) for table, rows in new.disk.items()}
    network.run(3600.0)
    for _ in range(3):
        network.ask(1, "node.rename", name=f"n1-{_}")
        network.run(1.0)
    old.skew = -200.0
    network.start(3)
    network.run(400.0)
    assert node(network, 3).view().status["twin"] == "aside"
    assert len(node(network, 1).neighbors.peers()) == 2
