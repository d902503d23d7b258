"""A stage for real nodes on which nothing takes time: what one wants done happens to another at once.

Each player is a node and the shell around it. Commands become events in the order they were given; time passes only
in ``Stage.advance``. A test breaks in where it likes: it holds the disk, the pushes or a message, and hands over its
own events instead. (``meshd.sim`` plays the same with latency and loss, for what needs many nodes and long times.)
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.joining.arrivals import HELP_WAIT
from meshd.core.node import Node
from meshd.core.state import TABLES, Stored
from meshd.errors import Code
from meshd.ids import ChannelId, LinkId, Now, PeerId, RequestId
from meshd.sim.suite import KeyTable, SimSuite
from meshd.wire.endpoint import join_endpoint
from meshd.wire.messages import LINK_MESSAGES, Heartbeat, HeartbeatAnswer, decode_message, encode_message
from meshd.wire.parts import SubscriptionPart
from meshd.wire.session_description import Candidate, SessionDescription

EPOCH = 1_800_000_000.0
M = TypeVar("M")


@dataclass(frozen=True)
class Refused:
    """The answer to a request that got an error."""

    code: Code
    detail: str


@dataclass(eq=False)
class End:
    """One side of a link."""

    owner: Player
    link: LinkId
    description: SessionDescription
    remote: SessionDescription | None = None
    other: End | None = None
    open: bool = True
    resumes: LinkId | None = None


@dataclass(eq=False)
class Player:
    """A node, its disk, and what it has had done."""

    stage: Stage
    name: str
    suite: SimSuite
    config: Config
    disk: Stored = field(default_factory=lambda: {table: {} for table in TABLES})
    node: Node = field(init=False)
    boot: int = 0
    alive: bool = True
    disk_mode: str = "good"  # or "slow": writes wait in ``held``; or "full": they fail
    held: list[cm.Persist] = field(default_factory=list)
    push_works: bool = True
    skew: float = 0.0  # seconds its wall clock is ahead
    ends: dict[LinkId, End] = field(default_factory=dict)
    log: list[cm.Command] = field(default_factory=list)
    answers: dict[int, dict[str, Any] | Refused] = field(default_factory=dict)
    inbox: list[dict[str, Any]] = field(default_factory=list)
    writes: int = 0
    wakings: list[float] = field(default_factory=list)  # when its timers fired

    @property
    def id(self) -> PeerId:
        return self.suite.peer_id

    @property
    def now(self) -> Now:
        return Now(self.stage.mono, self.stage.unix + self.skew)

    @property
    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.node.view().status["counters"]
        return counters

    def neighbors(self) -> set[str]:
        """The names of those it has a link to."""
        return {self.stage.named(peer).name for peer in self.node.neighbors.peers()}

    def notices(self, name: str) -> list[dict[str, Any]]:
        """The notifications of that name."""
        return [dict(c.fields) for c in self.log if isinstance(c, cm.Notify) and c.name == name]

    def did(self, kind: type[M]) -> list[M]:
        """The commands of that kind."""
        return [command for command in self.log if isinstance(command, kind)]

    def link_to(self, other: Player) -> LinkId:
        link = self.node.neighbors.current(other.id)
        assert link is not None, f"{self.name} has no link to {other.name}"
        return link.id

    # -- doing --------------------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event) -> list[cm.Command]:
        """Give it an event, and do nothing of what it wants done: that is the test's to look at."""
        commands = self.node.handle(event, self.now)
        self.log.extend(commands)
        return commands

    def give(self, event: ev.Event) -> None:
        """Give it an event and play on until nothing happens."""
        self.stage.queue.append((self, self.boot, event))
        self.stage.run()

    def request(self, method: str, /, **params: Any) -> int:
        """Ask for something; the answer comes into ``answers``, now or later."""
        number = next(self.stage.numbers)
        self.give(ev.Requested(RequestId(number), method, params))
        return number

    def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Ask for something that works at once."""
        answer = self.answers.get(self.request(method, **params))
        assert isinstance(answer, dict), answer
        return answer

    def refusal(self, method: str, /, **params: Any) -> Code:
        """Ask for something that is refused at once."""
        answer = self.answers.get(self.request(method, **params))
        assert isinstance(answer, Refused), answer
        return answer.code

    def start(self) -> None:
        self.node = Node(self.config, self.suite, Random(f"{self.name} {self.boot}"), deepcopy(self.disk))
        self.alive = True
        self.give(ev.Started())

    def crash(self) -> None:
        """Power is gone: what was not written is lost, and nobody is told."""
        self.alive = False
        self.boot += 1
        self.held.clear()
        for end in self.ends.values():
            end.open = False
        self.ends.clear()

    def restart(self) -> None:
        self.crash()
        self.start()

    def let_disk_go(self, count: int | None = None) -> None:
        """Write what was held, or the first ``count`` of it."""
        if count is None:
            self.disk_mode = "good"
        going, self.held = self.held[:count], self.held[len(self.held) if count is None else count :]
        for persist in going:
            self.write(persist)
        self.stage.run()

    def write(self, persist: cm.Persist) -> None:
        self.writes += 1
        for change in persist.changes:
            match change:
                case cm.Put(table, key, value):
                    self.disk[table][key] = value
                case cm.Delete(table, key):
                    self.disk[table].pop(key, None)
                case cm.Clear(table):
                    self.disk[table].clear()
        self.stage.queue.append((self, self.boot, ev.Persisted(persist.ticket)))

    def hear(self, other: Player, message: Any) -> None:
        """As if ``other`` had sent that on its link: a peer that does not keep to the protocol."""
        data = message if isinstance(message, bytes) else encode_message(message)
        self.give(ev.MessageReceived(self.link_to(other), data))

    def sent(self, kind: type[M]) -> list[M]:
        """The messages of that kind that it put on links, in order."""
        messages = (decode_message(c.data, LINK_MESSAGES) for c in self.did(cm.SendMessage))
        return [message for message in messages if isinstance(message, kind)]


class Stage:
    """All players, the network between them and the push service behind them."""

    def __init__(self, *names: str, config: Config | None = None) -> None:
        self.mono = 1000.0
        self.unix = EPOCH
        self.queue: deque[tuple[Player, int, ev.Event]] = deque()
        self.numbers = itertools.count(1)
        self.keys = KeyTable()
        self.players: dict[str, Player] = {}
        self.ends: dict[tuple[str, str], End] = {}
        self.cut: set[frozenset[str]] = set()  # pairs that no link comes up between
        self.endpoints: dict[str, tuple[Player, str, ChannelId]] = {}
        self.newcomers: set[ChannelId] = set()  # those of user agents for newcomers
        self.uaids: dict[tuple[str, str, bool], str] = {}  # the flag: whether it is the user agent for newcomers
        self.pushes: list[tuple[str, str, cm.SendPush]] = []  # from, to, what
        self.hold_pushes = False
        self.held_pushes: list[tuple[Player, ev.PushReceived]] = []
        self.push_status: Callable[[cm.SendPush], int | tuple[int, float | None]] | None = None
        self.tap: Callable[[Player, Player, bytes], bytes | None] | None = None  # None: the message is lost
        for name in names:
            self.add(name, config)

    def __getitem__(self, name: str) -> Player:
        return self.players[name]

    def named(self, peer: PeerId | bytes) -> Player:
        return next(player for player in self.players.values() if player.id == peer)

    def add(self, name: str, config: Config | None = None) -> Player:
        seed = hashlib.sha256(name.encode()).digest()
        suite = SimSuite(self.keys, seed, hashlib.sha256(seed).digest())
        player = Player(self, name, suite, config or Config())
        self.players[name] = player
        player.start()
        return player

    # -- the main jobs ------------------------------------------------------------------------------------------------

    def found(self, name: str) -> Player:
        """Have ``name`` found a mesh."""
        player = self[name]
        player.ask("mesh.found", mesh_name="home", name=name, mesh_key=hashlib.sha256(b"mesh").digest())
        self.advance(0.2)
        return player

    def mint(self, name: str, **params: Any) -> str:
        token: str = self[name].ask("introductions.mint", **params)["token"]
        return token

    def join(self, name: str, introducer: str, **params: Any) -> dict[str, Any]:
        joiner = self[name]
        number = joiner.request("mesh.join", token=self.mint(introducer, **params), name=name)
        self.advance(0.2 if number in joiner.answers else HELP_WAIT + 0.2)  # a neighbor may owe its answer
        answer = joiner.answers[number]
        assert isinstance(answer, dict), answer
        return answer

    def mesh(self, seconds: float = 10.0) -> list[Player]:
        """All players in one mesh, everybody introduced by the first, and time for all links."""
        first, *others = self.players
        self.found(first)
        for name in others:
            self.join(name, first)
        self.advance(seconds)
        return list(self.players.values())

    def separate(self, one: str, other: str) -> None:
        """No link between these two from now on; one that is up breaks without a word."""
        self.cut.add(frozenset((one, other)))
        for end in list(self[one].ends.values()):
            if end.other is not None and end.other.owner is self[other]:
                for side in (end, end.other):
                    side.open = False
                    self.queue.append((side.owner, side.owner.boot, ev.LinkClosed(side.link, "consent_expired")))
        self.run()

    # -- time ---------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, with all timers in their order."""
        target = self.mono + seconds
        self.run()
        while True:
            due = [
                (deadline, player.name, player)
                for player in self.players.values()
                if player.alive and (deadline := player.node.next_deadline()) is not None and deadline <= target
            ]
            if not due:
                break
            deadline, _, player = min(due)
            self._pass(max(0.0, deadline - self.mono))
            player.wakings.append(self.mono)
            player.give(ev.TimerFired())
        self._pass(target - self.mono)

    def skip(self, seconds: float) -> None:
        """Let time pass at once, as if all machines had slept: what is due comes late."""
        self._pass(seconds)
        for player in self.players.values():
            if player.alive:
                player.give(ev.TimerFired())

    def _pass(self, seconds: float) -> None:
        self.mono += seconds
        self.unix += seconds

    def run(self) -> None:
        """Play on until nothing happens any more."""
        for _ in range(1_000_000):
            if not self.queue:
                return
            player, boot, event = self.queue.popleft()
            if player.alive and player.boot == boot:
                for command in player.handle(event):
                    if player.alive and player.boot == boot:  # not killed by the one before
                        self.do(player, command)
        raise AssertionError("it never ends")

    @staticmethod
    def decode(data: bytes) -> Any:
        """A message on a link."""
        return decode_message(data, LINK_MESSAGES)

    @staticmethod
    def endpoint(part: SubscriptionPart) -> str:
        """Where the pushes for that subscription go."""
        return join_endpoint(part.prefix, part.tail)

    # -- what the shell does ------------------------------------------------------------------------------------------

    def do(self, player: Player, command: cm.Command) -> None:
        def then(event: ev.Event, whom: Player = player) -> None:
            self.queue.append((whom, whom.boot, event))

        match command:
            case cm.Persist():
                if player.disk_mode == "good":
                    player.write(command)
                elif player.disk_mode == "full":
                    then(ev.PersistFailed(command.ticket, "No space left on device"))
                else:
                    player.held.append(command)
            case cm.PrepareLink(link, offerer, resumes):
                end = End(player, link, self.description(player, "actpass" if offerer else "active"), resumes=resumes)
                player.ends[link] = end
                self.ends[end.description.ufrag, end.description.pwd] = end
                then(ev.LinkPrepared(link, end.description))
            case cm.ConnectLink(link, remote, resume):
                player.ends[link].remote = remote
                if not resume:
                    player.ends[link].resumes = None
                self.connect(player.ends[link])
            case cm.SendMessage(link, data):
                end_or_none = player.ends.get(link)
                if end_or_none is not None and end_or_none.open and end_or_none.other is not None:
                    other = end_or_none.other
                    passed = data if self.tap is None else self.tap(player, other.owner, data)
                    if passed is not None and other.open:
                        then(ev.MessageReceived(other.link, passed), other.owner)
            case cm.SendHeartbeat(link, number):
                end_or_none = player.ends.get(link)
                if end_or_none is not None and end_or_none.other is not None:
                    other = end_or_none.other
                    if self._beats(end_or_none, Heartbeat(number)):
                        then(ev.HeartbeatReceived(other.link), other.owner)
                        if self._beats(other, HeartbeatAnswer(number)):
                            then(ev.HeartbeatAnswered(link, number))
            case cm.CloseLink(link):
                end_or_none = player.ends.pop(link, None)
                if end_or_none is not None:
                    end_or_none.open = False
                    other_end = end_or_none.other
                    if other_end is not None and other_end.open:
                        other_end.open = False
                        then(ev.LinkClosed(other_end.link, "closed_by_peer"), other_end.owner)
            case cm.OpenUserAgent(service, uaid, newcomers):
                if player.push_works:
                    known = self.uaids.get((player.name, service, newcomers))
                    if known is None or known != uaid:
                        known = self.uaids[player.name, service, newcomers] = f"uaid {next(self.numbers)}"
                        for endpoint, owner in list(self.endpoints.items()):
                            if owner[:2] == (player, service) and (owner[2] in self.newcomers) == newcomers:
                                del self.endpoints[endpoint]
                    then(ev.UserAgentConnected(service, known, newcomers))
            case cm.RegisterChannel(service, channel, _, newcomers):
                word = base64.urlsafe_b64encode(hashlib.sha256(channel + str(next(self.numbers)).encode()).digest())
                endpoint = f"https://{service}.example/wpush/v2/{word.decode().rstrip('=')}"
                self.endpoints[endpoint] = (player, service, channel)
                if newcomers:
                    self.newcomers.add(channel)
                then(ev.ChannelRegistered(channel, endpoint))
            case cm.UnregisterChannel(_, channel):
                self.endpoints = {e: owner for e, owner in self.endpoints.items() if owner[2] != channel}
            case cm.SendPush():
                self.push(player, command)
            case cm.Respond(request, result):
                assert request not in player.answers, "answered twice"
                player.answers[request] = result
            case cm.Refuse(request, code, detail):
                assert request not in player.answers, "answered twice"
                player.answers[request] = Refused(code, detail)
            case cm.DeliverMessage(message):
                player.inbox.append(dict(message))

    def _beats(self, end: End, beat: Heartbeat | HeartbeatAnswer) -> bool:
        """Whether a heartbeat, or its answer, gets through. The tap sees it as the message that says the same."""
        other = end.other
        if other is None or not (end.open and other.open and end.owner.alive and other.owner.alive):
            return False
        data = encode_message(beat)
        return self.tap is None or self.tap(end.owner, other.owner, data) is not None

    def description(self, player: Player, setup: str = "actpass") -> SessionDescription:
        digest = hashlib.sha256(f"{player.name} {next(self.numbers)}".encode()).digest()
        ufrag, pwd = base64.b64encode(digest[:3]).decode(), base64.b64encode(digest[3:21]).decode()
        candidate = Candidate("host", "192.0.2.1", 40_000)
        return SessionDescription(ufrag, pwd, self.fingerprint(player), setup, (candidate,))

    def fingerprint(self, player: Player) -> bytes:
        return hashlib.sha256(b"certificate " + player.id).digest()

    def connect(self, end: End) -> None:
        assert end.remote is not None
        other = self.ends.get((end.remote.ufrag, end.remote.pwd))
        if other is None or not other.open or other.remote is None or end.other is not None:
            return
        if (other.remote.ufrag, other.remote.pwd) != (end.description.ufrag, end.description.pwd):
            return
        if frozenset((end.owner.name, other.owner.name)) in self.cut:
            return
        end.other, other.other = other, end
        for side, far in ((end, other), (other, end)):
            if side.resumes is not None:
                del side.owner.ends[side.link]
                self.queue.append((side.owner, side.owner.boot, ev.LinkResumed(side.resumes, side.link)))
                continue
            ours, theirs = side.description.fingerprint, far.description.fingerprint
            self.queue.append((side.owner, side.owner.boot, ev.LinkConnected(side.link, ours, theirs)))

    def push(self, player: Player, command: cm.SendPush) -> None:
        owner = self.endpoints.get(command.endpoint)
        told = self.push_status(command) if self.push_status is not None else 410 if owner is None else 201
        status, retry_after = told if isinstance(told, tuple) else (told, None)
        self.queue.append((player, player.boot, ev.PushAnswered(command.push, status, "", retry_after)))
        if status == 201 and owner is not None:
            to, service, channel = owner
            self.pushes.append((player.name, to.name, command))
            received = ev.PushReceived(
                service, channel, f"version {next(self.numbers)}", command.body, channel in self.newcomers
            )
            if self.hold_pushes:
                self.held_pushes.append((to, received))
            else:
                self.queue.append((to, to.boot, received))

    def let_pushes_go(self) -> None:
        """Deliver what was held."""
        self.hold_pushes = False
        going, self.held_pushes = self.held_pushes, []
        for player, received in going:
            self.queue.append((player, player.boot, received))
        self.run()


def in_order(one: Player, other: Player) -> tuple[Player, Player]:
    """The two, the one with the smaller id first: its offer wins where two cross."""
    return (one, other) if one.id < other.id else (other, one)


def founder_and_newcomer() -> tuple[Stage, Player, Player]:
    """anna has founded a mesh, bert has none."""
    stage = Stage("anna", "bert")
    stage.found("anna")
    return stage, stage["anna"], stage["bert"]


def outcome(player: Player, number: int) -> Code | None:
    """The code of a refusal, None if it is not answered yet."""
    answer = player.answers.get(number)
    assert not isinstance(answer, dict), answer
    return None if answer is None else answer.code
