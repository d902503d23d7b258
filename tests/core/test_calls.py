"""Calls that people paste: answered by one push, once, and told apart where they cannot be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from caller import INSTANCE, Caller
from playbook import Player, Refused, Stage, outcome

from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.calls import MAX_RING_LIFETIME
from meshd.core.signaling import PUSH_SESSION_TIMEOUT
from meshd.errors import Code, Rejected
from meshd.ids import LinkId, SessionId
from meshd.sim.suite import SimSuite
from meshd.wire.call import PastedCall
from meshd.wire.doubling import TwinSeen
from meshd.wire.joining import FurtherOffer, JoinAccepted, JoinAnswered
from meshd.wire.messages import Answer, Offer, Records, encode_message
from meshd.wire.parts import Grant
from meshd.wire.session_description import decode as decode_description
from meshd.wire.session_description import encode as encode_description

SESSION = SessionId(b"a call..")


class Page(Caller):
    """A caller on the stage: its push service is the test's, and so is its link."""

    def __init__(self, stage: Stage, name: str = "page") -> None:
        seed = hashlib.sha256(name.encode()).digest()
        suite = SimSuite(stage.keys, seed, hashlib.sha256(seed).digest())
        super().__init__(suite, hashlib.sha256(seed + b"push").digest(), f"https://{name}.example/{name}", stage.clock)
        self.stage = stage
        self.offer = replace(stage["anna"].stage.description(stage["anna"]), fingerprint=seed)
        self.pushed: list[bytes] = []

    def text_of(self, **changes: Any) -> str:
        self.now = self.stage.clock
        return self.text(changes.pop("session", SESSION), changes.pop("offer", self.offer), **changes)

    def come(self, player: Player, session: bytes = SESSION) -> None:
        """The link that was offered comes up."""
        link = next(link for link in player.node.neighbors.links() if link.peer == self.suite.peer_id)
        theirs, ours = self.stage.fingerprint(player), self.offer.fingerprint
        player.give(ev.LinkConnected(link.id, theirs, ours))
        player.give(ev.MessageReceived(link.id, self.hello(session, player.id, ours, theirs)))


def link_to(player: Player, page: Page) -> LinkId:
    link = player.node.neighbors.current(page.suite.peer_id)
    assert link is not None
    return link.id


class Calling(Stage):
    """Members of a mesh, and pages that are none."""

    def __init__(self, *names: str) -> None:
        super().__init__(*(names or ("anna",)))
        self.mesh()
        self.pages: list[Page] = []
        self.statuses: Callable[[], int] = lambda: 201
        self.push_status = self._service

    @property
    def clock(self) -> Any:
        return self["anna"].now

    def page(self, name: str = "page") -> Page:
        page = Page(self, name)
        self.pages.append(page)
        return page

    def _service(self, push: cm.SendPush) -> int:
        for page in self.pages:
            if push.endpoint == page.endpoint:
                status = self.statuses()
                if status == 201:
                    page.pushed.append(page.suite.decrypt_push(page.seed, push.body))
                return status
        return 201


# -- what it is for ---------------------------------------------------------------------------------------------------


def test_a_caller_is_admitted_and_answered_by_one_push() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    assert number not in anna.answers
    [pushed] = page.pushed
    letter, accepted = page.open(pushed)
    assert (letter.sender, letter.session, accepted.mesh_name) == (anna.id, SESSION, "home")
    assert page.chain[-1].name == "phone"
    assert decode_description(accepted.description).setup == "active"
    assert accepted.grant.subscriptions
    page.come(anna)
    answer = anna.answers[number]
    assert isinstance(answer, dict)
    assert (answer["peer_id"], answer["name"], answer["admits"], answer["linked"]) == (
        page.suite.peer_id,
        "phone",
        True,
        True,
    )
    anna.give(ev.MessageReceived(link_to(anna, page), encode_message(Records((page.record().encoded,)))))
    assert anna.node.membership.named("phone") == [page.suite.peer_id]
    assert len(page.pushed) == 1


def test_what_the_caller_gives_is_kept_as_its_grant() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.request("calls.answer", text=page.text_of())
    assert anna.node.grants.subscriptions(page.suite.peer_id) == (page.part(),)
    anna.restart()
    assert anna.node.grants.can_push(page.suite.peer_id)


def test_a_preview_says_who_it_is_and_does_nothing() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    text = page.text_of()
    for _ in range(2):
        told = anna.ask("calls.answer", text=text, preview=True)
        assert (told["peer_id"], told["name"], told["mesh_name"]) == (page.suite.peer_id, "phone", "home")
        assert (told["admits"], told["linked"], told["services"]) == (True, False, ["https://page.example"])
    stage.advance(5)
    assert page.pushed == []
    assert not anna.node.membership.is_member(page.suite.peer_id)
    assert page.suite.peer_id not in anna.node.grants
    assert anna.ask("calls.answer", text=text, preview=True, name="tablet")["name"] == "tablet"


def test_the_name_is_the_callers_wish_or_what_the_person_says_and_always_free() -> None:
    stage = Calling("anna", "phone")
    anna = stage["anna"]
    for wish, given, name in (("phone", "", "phone-2"), ("<b>", "", "peer"), ("phone", "tablet", "tablet")):
        page = stage.page(f"page-{name}")
        text = page.text_of(name=wish)
        assert anna.ask("calls.answer", text=text, name=given, preview=True)["name"] == name
        anna.request("calls.answer", text=text, name=given)
        assert anna.node.membership.name_of(page.suite.peer_id) == name
    assert anna.refusal("calls.answer", text=stage.page("other").text_of(), name="No Name") is Code.NAME_INVALID


def test_a_call_without_an_offer_is_offered_to_and_answers_by_push() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of(offer=None))
    stage.advance(3)
    [pushed] = page.pushed
    letter, accepted = page.open(pushed)
    assert decode_description(accepted.description).setup == "actpass"
    answer = page.answer(letter, replace(page.offer, setup="active"))
    [part] = accepted.grant.subscriptions  # ours rode in the first push, so that the callee can answer
    channel, row = next(held for held in anna.node.channels if held[1].holder == page.suite.peer_id)
    body = page.suite.encrypt_push(part.p256dh, part.auth, answer)
    anna.give(ev.PushReceived(row.service, channel, "1", body, True))
    assert [command.remote.setup for command in anna.did(cm.ConnectLink)][-1:] == ["active"]
    page.come(anna)
    assert isinstance(anna.answers[number], dict)


def test_without_a_push_service_a_call_without_an_offer_is_none() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.push_works = False
    anna.restart()
    number = anna.request("calls.answer", text=page.text_of(offer=None))
    stage.advance(3)
    assert outcome(anna, number) is Code.PUSH_UNAVAILABLE
    assert page.pushed == []
    assert not anna.node.membership.is_member(page.suite.peer_id)


def test_other_members_answer_the_further_offers_in_the_same_push() -> None:
    stage = Calling("anna", "bert")
    anna, bert, page = stage["anna"], stage["bert"], stage.page()
    further = FurtherOffer(b"another.", encode_description(replace(page.offer, ufrag="abcd"), page.offer))
    anna.request("calls.answer", text=page.text_of(further=(further,)))
    stage.advance(3)
    [pushed] = page.pushed
    _, accepted = page.open(pushed)
    letter, answered = page.open(accepted.answers[0])
    assert (letter.sender, letter.session) == (bert.id, b"another.")
    assert isinstance(answered, JoinAnswered)


# -- members ----------------------------------------------------------------------------------------------------------


def linked(stage: Calling, name: str = "page") -> Page:
    """A page that has become a member."""
    anna, page = stage["anna"], stage.page(name)
    anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    page.open(page.pushed.pop())
    page.come(anna)
    anna.give(ev.MessageReceived(link_to(anna, page), encode_message(Records((page.record().encoded,)))))
    page.pushed.clear()
    return page


def known(stage: Calling, name: str = "page") -> Page:
    """A page that has become a member, and has no link any more."""
    anna, page = stage["anna"], linked(stage, name)
    anna.give(ev.LinkClosed(link_to(anna, page), "consent_expired"))
    stage.advance(200)
    page.pushed.clear()
    return page


def test_a_member_that_calls_only_gets_a_link() -> None:
    stage = Calling()
    anna, page = stage["anna"], known(stage)
    before = anna.node.membership.record(page.suite.peer_id)
    text = page.text_of(session=b"again...", grant=Grant(1, (page.part(),)))
    assert not anna.ask("calls.answer", text=text, preview=True)["admits"]
    number = anna.request("calls.answer", text=text)
    stage.advance(1)
    [pushed] = page.pushed
    letter, answer = page.open(pushed)
    assert isinstance(answer, Answer)
    assert letter.session == b"again..."
    page.come(anna, b"again...")
    told = anna.answers[number]
    assert isinstance(told, dict)
    assert (told["name"], told["admits"], told["linked"]) == ("phone", False, True)
    assert anna.node.membership.record(page.suite.peer_id) is before
    assert len(anna.notices("peer_admitted")) == 1


def test_a_member_that_has_started_again_calls_while_its_old_link_stands() -> None:
    stage = Calling()
    anna, page = stage["anna"], linked(stage)
    text = page.text_of(session=b"again...", instance=b"restart.", grant=Grant(1, (page.part(),)))
    anna.request("calls.answer", text=text)
    stage.advance(30)
    assert isinstance(page.open(page.pushed[-1])[1], Answer)
    assert anna.sent(TwinSeen) == []  # a text that was pasted is no letter that could be shown


def test_a_member_that_has_lost_its_admission_gets_the_same_again() -> None:
    stage = Calling()
    anna, page = stage["anna"], known(stage)
    chain = page.chain
    page.mesh = type(page.mesh)(b"")
    anna.request("calls.answer", text=page.text_of(session=b"again..."))
    stage.advance(3)
    _, accepted = page.open(page.pushed[-1])
    assert isinstance(accepted, JoinAccepted)
    assert page.chain == chain


def test_the_answer_to_a_call_comes_from_the_mesh_that_it_says() -> None:
    """Whoever has seen a call can answer it, and lie about everything but the mesh."""
    stage = Calling()
    page = known(stage)
    stage.add("thief").ask("mesh.found", mesh_name="home", name="thief", mesh_key=b"t" * 32)
    thief = stage["thief"]
    stage.advance(1)
    assert thief.refusal("calls.answer", text=page.text_of(session=b"again...")) is Code.CALL_FOREIGN
    mesh, record = thief.node.membership.mesh, thief.node.membership.own_record
    assert record is not None
    admission = thief.node.membership.chain_for(page.suite.peer_id, "phone")
    lie = JoinAccepted(
        encode_description(replace(page.offer, setup="active")),
        tuple(certificate.encoded for certificate in admission),
        "home",
        record.encoded,
        None,
    )
    for claimed in (mesh, page.mesh):
        envelope = thief.node.post.envelope_to(
            claimed, page.suite.peer_id, page.suite.sealing_key, lie, SessionId(b"again...")
        )
        assert envelope is not None
        with pytest.raises(Rejected):
            page.open(envelope)


def test_one_that_says_it_is_a_member_and_is_not_known() -> None:
    stage = Calling()
    page = stage.page()
    page.mesh = stage["anna"].node.membership.mesh
    assert stage["anna"].refusal("calls.answer", text=page.text_of()) is Code.PEER_UNKNOWN


# -- what is no good --------------------------------------------------------------------------------------------------


def flipped(text: str) -> str:
    return text[:60] + ("A" if text[60] != "A" else "B") + text[61:]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda text: text[:-40], Code.PASTE_TRUNCATED),
        (flipped, Code.PASTE_MANGLED),
        (lambda text: "hello", Code.CALL_FOREIGN),
        (lambda text: "meshd-offer1_" + text[12:], Code.CALL_FOREIGN),
        (lambda text: "x" * 70_000, Code.CALL_FOREIGN),
        (lambda text: '{"subscription":', Code.PASTE_MANGLED),
        (lambda text: '{"type":"offer","sdp":"v=0"}', Code.CALL_FOREIGN),
        (lambda text: '{"subscription":{"endpoint":"https://a/b"},"description":{}}', Code.CALL_ANONYMOUS),
    ],
)
def test_a_text_that_is_no_call(spoil: Callable[[str], str], code: Code) -> None:
    stage = Calling()
    assert stage["anna"].refusal("calls.answer", text=spoil(stage.page().text_of())) is code


def test_a_call_of_another_time_mesh_or_hand() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    now = int(stage.clock.unix)

    def told(**changes: Any) -> Code:
        return anna.refusal("calls.answer", text=page.text_of(**changes))

    assert told(issued=now - 2000, expires=now - 1700) is Code.CALL_EXPIRED
    assert told(issued=now + 2000, expires=now + 2300) is Code.CLOCK_WRONG
    assert told(expires=now + 301) is Code.CLOCK_WRONG
    assert told(offer=None, expires=now + int(MAX_RING_LIFETIME) + 1) is Code.CLOCK_WRONG
    assert told(mesh=bytes(32)) is Code.CALL_FOREIGN
    assert told(mesh=bytes(31)) is Code.PASTE_MANGLED
    assert told(caller=anna.id) is Code.PASTE_MANGLED
    assert told(description=b"x") is Code.PASTE_MANGLED
    assert told(grant=Grant(0, ())) is Code.PASTE_MANGLED
    assert told(grant=Grant(0, (page.part(capable=False),))) is Code.CALL_UNANSWERABLE
    stolen = replace(page.part(), vapid_key=stage.page("other").part().vapid_key)
    assert told(grant=Grant(0, (stolen,))) is Code.CALL_UNANSWERABLE
    assert told(grant=Grant(0, (replace(page.part(), prefix="ftp://page.example/", tail=b""),))) in (
        Code.PASTE_MANGLED,
        Code.CALL_UNANSWERABLE,
    )
    assert page.pushed == []
    assert anna.node.membership.named("phone") == []


def test_a_call_without_an_offer_may_wait_for_hours() -> None:
    stage = Calling()
    page = stage.page()
    text = page.text_of(offer=None, expires=int(stage.clock.unix + MAX_RING_LIFETIME))
    stage.advance(10 * 3600)
    stage["anna"].request("calls.answer", text=text)
    stage.advance(3)
    page.now = stage.clock
    assert isinstance(page.open(page.pushed[0])[1], JoinAccepted)


def test_ones_own_call() -> None:
    stage = Calling()
    page = stage.page()
    page.suite = stage["anna"].suite
    assert stage["anna"].refusal("calls.answer", text=page.text_of()) is Code.CALL_FOREIGN


def test_a_node_without_a_mesh_cannot_answer() -> None:
    stage = Calling()
    loner = stage.add("loner")
    assert loner.refusal("calls.answer", text=stage.page().text_of()) is Code.NO_MESH


def test_one_without_the_right_to_introduce_cannot_admit() -> None:
    stage = Calling()
    config = stage["anna"].config
    config = replace(config, introductions=replace(config.introductions, may_introduce=False))
    stage["anna"].give(ev.Reconfigured(config))
    stage.add("bert")
    stage.join("bert", "anna")
    page = stage.page()
    assert stage["bert"].refusal("calls.answer", text=page.text_of()) is Code.REFUSED
    assert page.pushed == []


def test_a_revoked_key_stays_out() -> None:
    stage = Calling()
    anna, page = stage["anna"], known(stage)
    anna.ask("members.revoke", peer="phone")
    page.mesh = type(page.mesh)(b"")
    assert anna.refusal("calls.answer", text=page.text_of(session=b"again...")) is Code.REFUSED


def test_a_full_mesh() -> None:
    stage = Calling()
    config = stage["anna"].config
    stage["anna"].give(ev.Reconfigured(replace(config, mesh=replace(config.mesh, max_members=1))))
    assert stage["anna"].refusal("calls.answer", text=stage.page().text_of()) is Code.BUSY


# -- once -------------------------------------------------------------------------------------------------------------


def test_a_call_is_answered_once_also_over_a_restart() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    text = page.text_of()
    first = anna.request("calls.answer", text=text)
    assert anna.refusal("calls.answer", text=text) is Code.CALL_USED
    stage.advance(3)
    assert first not in anna.answers, "the first goes on"
    anna.restart()
    assert anna.refusal("calls.answer", text=text) is Code.CALL_USED
    assert len(page.pushed) == 1


def test_two_calls_of_one_caller_pasted_at_once() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    first = anna.request("calls.answer", text=page.text_of())
    second = anna.request("calls.answer", text=page.text_of(session=b"second.."))
    assert outcome(anna, first) is Code.CALL_USED
    stage.advance(10)
    letters = [page.open(pushed)[0] for pushed in page.pushed]
    assert letters[-1].session == b"second.."
    page.come(anna, b"second..")
    assert isinstance(anna.answers[second], dict)


def test_two_callers_at_once_get_two_names() -> None:
    stage = Calling()
    anna, pages = stage["anna"], [stage.page("one"), stage.page("two")]
    numbers = [anna.request("calls.answer", text=page.text_of()) for page in pages]
    stage.advance(3)
    for page in pages:
        page.open(page.pushed[0])
        page.come(anna)
    assert sorted(anna.answers[number]["name"] for number in numbers) == ["phone", "phone-2"]  # type: ignore[index]


def test_two_members_answer_the_same_call() -> None:
    """The caller takes the first; the other is told that no link has come, and has admitted the same key."""
    stage = Calling("anna", "bert")
    page = stage.page()
    text = page.text_of()
    numbers = [stage[name].request("calls.answer", text=text) for name in ("anna", "bert")]
    stage.advance(3)
    letters = [page.open(pushed)[0] for pushed in page.pushed]
    assert {letter.sender for letter in letters} == {stage["anna"].id, stage["bert"].id}
    page.come(stage["anna"])
    stage.advance(PUSH_SESSION_TIMEOUT)
    assert isinstance(stage["anna"].answers[numbers[0]], dict)
    assert outcome(stage["bert"], numbers[1]) is Code.LINK_FAILED


@pytest.mark.parametrize("wins", [True, False])
def test_both_call_each_other(wins: bool) -> None:
    """The member offers by push at the same moment: one link comes of it, by the rule that all offers obey."""
    stage = Calling()
    anna = stage["anna"]
    name = next(n for n in map(str, range(64)) if (Page(stage, n).suite.peer_id < anna.id) == wins)
    page = known(stage, name)
    anna.node.signaling.dial(page.suite.peer_id)
    number = anna.request("calls.answer", text=page.text_of(session=b"again...", grant=Grant(1, (page.part(),))))
    stage.advance(25)
    [session] = [session for session in anna.node.signaling.sessions() if session.peer == page.suite.peer_id]
    said = [page.open(pushed)[1] for pushed in page.pushed]
    assert any(isinstance(message, Answer) for message in said) == wins
    assert any(isinstance(message, Offer) for message in said) != wins
    page.come(anna, session.id)
    assert isinstance(anna.answers[number], dict)


# -- the push service -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_push_that_is_refused_for_good_admits_nobody(status: int) -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    stage.statuses = lambda: status
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(PUSH_SESSION_TIMEOUT + 5)
    answer = anna.answers[number]
    assert isinstance(answer, Refused)
    assert answer.code is Code.CALL_UNANSWERABLE
    assert str(status) in answer.detail
    assert anna.node.membership.named("phone") == []
    assert page.suite.peer_id not in anna.node.grants
    anna.restart()
    assert anna.node.membership.named("phone") == []


def test_a_service_in_trouble_is_tried_again_and_the_caller_gets_one_push() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    left = [503, 429, 201]
    stage.statuses = lambda: left.pop(0)
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(PUSH_SESSION_TIMEOUT - 5)
    assert (len(page.pushed), left) == (1, [])
    page.now = stage.clock
    page.open(page.pushed[0])
    page.come(anna)
    assert isinstance(anna.answers[number], dict)


def test_the_answer_fits_the_smallest_push_that_services_take() -> None:
    stage = Calling("anna", *(f"m{n}" for n in range(4)))
    anna, page = stage["anna"], stage.page()
    further = tuple(
        FurtherOffer(b"%08d" % n, encode_description(replace(page.offer, ufrag=f"abc{n}"), page.offer))
        for n in range(3)
    )
    anna.request("calls.answer", text=page.text_of(further=further))
    stage.advance(3)
    [size] = [len(push.body) for push in anna.did(cm.SendPush) if push.endpoint == page.endpoint]
    assert size <= 2744


def test_an_answer_that_was_pushed_and_no_link() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of())
    stage.advance(PUSH_SESSION_TIMEOUT + 5)
    assert outcome(anna, number) is Code.LINK_FAILED
    assert len(page.pushed) == 1
    assert anna.node.membership.is_member(page.suite.peer_id), "it may still come: it has been told"


def test_the_admission_is_durable_before_the_answer_leaves() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.disk_mode = "slow"
    anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    assert page.pushed == []
    anna.let_disk_go()
    stage.advance(1)
    assert len(page.pushed) == 1


def test_nobody_waits_any_more_and_the_caller_comes_all_the_same() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    number = anna.request("calls.answer", text=page.text_of())
    anna.give(ev.RequestAbandoned(number))  # type: ignore[arg-type]
    stage.advance(3)
    page.open(page.pushed[0])
    page.come(anna)
    assert number not in anna.answers
    assert page.suite.peer_id in anna.node.neighbors.peers()


def test_a_caller_that_has_its_link_is_told_so() -> None:
    stage = Calling()
    anna, page = stage["anna"], stage.page()
    anna.request("calls.answer", text=page.text_of())
    stage.advance(3)
    page.open(page.pushed[0])
    page.come(anna)
    told = anna.ask("calls.answer", text=page.text_of(session=b"again..."))
    assert (told["linked"], told["admits"], len(page.pushed)) == (True, False, 1)


def test_secrets_do_not_show() -> None:
    page = Calling().page()
    call = page.call(SESSION, page.offer)
    shown = repr(PastedCall(call, b"", b"", b"private"))
    assert "private'" not in shown
    assert str(page.part().auth) not in shown
    assert call.instance == INSTANCE
