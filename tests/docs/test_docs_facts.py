"""Names and numbers that the pages mention are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from meshd.config import Config
from meshd.core import peering
from meshd.core.delivery import outbox, replay
from meshd.core.joining import arrivals, assisting, joining, tries
from meshd.core.joining.bearers import MAX_CLOCK_REFUSALS
from meshd.core.membership import admitting, membership, record_rate, revocation_outbox, revocations
from meshd.core.notifications import NOTIFICATIONS
from meshd.core.overlay import broadcast, link_states, neighbors, reconciliation, relay, routing
from meshd.core.overlay.pulse import RTT_INTERVAL
from meshd.core.pushing import budget as push_budget
from meshd.core.pushing import pushing
from meshd.core.pushing import standing as push_standing
from meshd.core.pushing.capabilities import (
    CLOCK_SLACK,
    GRANT_SPAN,
    OWN_GRANT_SPAN,
    OWN_PROMISED_SPAN,
    OWN_TOP_UP_SPAN,
    PROMISED_SPAN,
    TOP_UP_SPAN,
)
from meshd.core.pushing.subscription_change import KEEP_OLD
from meshd.core.signaling import saying, session, sessions, signaling
from meshd.core.signaling.session import PASTE_TIMEOUT
from meshd.crypto import revocation, webpush
from meshd.crypto.admission import DIGEST_SIZE, MAX_CERTIFICATE_SIZE, MAX_CHAIN_LENGTH
from meshd.daemon.document_log import DAEMON_LINES
from meshd.ids import CLOCK_SKEW
from meshd.wire import codec, envelope, frame, messages, parts, reconciling, record, session_description
from meshd.wire.introduction import PREFIX

ROOT = Path(__file__).resolve().parents[2]
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "meshd").rglob("*.py")))

# What docs/protocol.md says, with the constant that it stands for.
SAID = (
    f"{envelope.HEADER_SIZE} bytes are the *outside*",
    f"An envelope has at most {messages.MAX_ENVELOPE_SIZE:,} bytes",
    f"at most {CLOCK_SKEW:.0f} s in the future, `expires - issued` at most {envelope.MAX_LIFETIME:.0f} s",
    f"kept for {peering.STRANGER_WAIT:.0f} s",
    f"at most {peering.MAX_STRANGERS} such",
    f"which of the {replay.WINDOW - 1} below it",
    f"until `expires` + {2 * CLOCK_SKEW:,.0f} s",
    f"At most {replay.MAX_SESSIONS_PER_SENDER} sessions of one sender, {replay.MAX_SESSIONS:,} in all",
    f"Arrays have at most {codec.MAX_ITEMS:,} items",
    f"one frame of at most {frame.MAX_FRAME_SIZE:,} bytes",
    f"A peer message has at most {messages.MAX_PEER_MESSAGE_SIZE:,} bytes; reassembly gives up at "
    f"{frame.MAX_MESSAGE_SIZE:,}",
    f"came up less than {neighbors.SAME_MOMENT:.0f} s ago",
    f"after {Config().mesh.heartbeat_interval:.0f} s of silence, and every {RTT_INTERVAL:.0f} s in any case, "
    f"and takes a link for dead after {Config().mesh.link_timeout:.1f} s",
    f"A **chain** is 1 to {MAX_CHAIN_LENGTH} certificates",
    f"At most {MAX_CERTIFICATE_SIZE} bytes. Rights",
    f"At most {revocation.MAX_REVOCATION_SIZE:,} bytes. Scope",
    f"kept: array to {revocation.MAX_KEPT} of bin {DIGEST_SIZE}",
    f"at most {revocation.MAX_LIFETIME // 86_400 // 365} years after `issued`",
    f"{revocation_outbox.PACE_BURST} messages at once and {revocation_outbox.PACE_RATE:.0f} a second after that",
    f"no more than {revocation_outbox.ASKED_BURST} at once and one a second",
    f"Of one peer {peering.COSTLY_BURST} are taken at once, and one in {1 / peering.COSTLY_RATE:.0f} seconds after",
    f"At most {revocations.MAX_OF_ONE_ADMIN} revocations of one admin are kept, {revocations.MAX_REVOCATIONS:,} of all",
    f"for {admitting.MEMBER_LIFETIME // 86_400} days as an admin, for {admitting.INTRODUCED_LIFETIME // 86_400} days",
    f"At most {parts.MAX_RECORD_SIZE:,} bytes. `generation`",
    f"A record lives {record.RECORD_LIFETIME / 86_400:.0f} days",
    f"at most {record_rate.RECORD_RATE:.0f} a second are taken, after a burst of {record_rate.RECORD_BURST:.0f}",
    f"are remembered for {membership.DEPARTED_RETENTION / 86_400:.0f} days",
    f"Changes within {link_states.BATCH_INTERVAL * 1000:.0f} ms make one link state",
    f"(one that comes sooner waits for it, {link_states.MAX_EARLY} such at most)",
    f"gathered for {broadcast.NEWS_INTERVAL} s",
    f"(`Have`), gathered for {broadcast.HAVE_INTERVAL:.0f} s",
    f"come {broadcast.SHORTER_BY} hops shorter",
    f"At most {reconciling.MAX_ENTRIES:,} are listed",
    f"it has at most {reconciliation.RECORDS_PER_BUCKET} members for each bucket",
    f"the sender sets hops to {routing.MAX_HOPS}",
    f"({relay.MESSAGE_RATE:.0f} envelopes/s and {relay.BYTE_RATE / 1024 / 1024:.0f} MiB/s",
    f"the way of the last {relay.MAX_TRACES:,}",
    f"repeated every {saying.RESEND_INTERVAL:.0f} s",
    f"{signaling.RETURNED_INTERVAL} s after an `Undeliverable`",
    f"every {saying.PUSH_RESEND_INTERVAL:.0f} s. A repeated offer",
    f"lasts {sessions.SESSION_TIMEOUT:.0f} s over relays, {session.PUSH_SESSION_TIMEOUT:.0f} s by push",
    f"Up to {Config().mesh.max_full_mesh} members every pair keeps a link",
    "It is padded to {:,}, {:,} or {:,} bytes".format(*webpush.PADDED_SIZES),
    f"after {push_standing.FIRST_RETRY_DELAY} s, doubling to {push_standing.MAX_RETRY_DELAY:.0f} s",
    f"at most {pushing.MAX_TRIES} tries",
    f"at least {push_budget.MIN_PUSH_INTERVAL:.0f} s apart",
    f"at most {push_budget.MAX_DAILY_PUSHES + push_budget.MAX_BURST} in any day",
    f"not the first choice for {push_standing.FIRST_TROUBLE:.0f} s, doubling to {push_standing.MAX_TROUBLE:.0f} s",
    f"at least {CLOCK_SLACK} s and at most 24 h - {CLOCK_SLACK} s ahead",
    f"Neighbors can push for {OWN_PROMISED_SPAN / 86400:.0f} days",
    f"given {OWN_GRANT_SPAN / 86400:.1f} and topped up an hour above {(OWN_TOP_UP_SPAN - 3600) / 86400:.0f}",
    f"it is {PROMISED_SPAN / 3600:.0f} h: given {GRANT_SPAN / 3600:.0f}, topped up below {TOP_UP_SPAN / 3600:.0f}",
    f"for {KEEP_OLD / 3600:.0f} h, and on until",
    f'token = "{PREFIX}"',
    f"With no answer for {joining.RETRY_INTERVAL:.0f} s",
    f"at most {joining.MAX_TRIES} times",
    f"as fit into {tries.MAX_REQUEST_SIZE:,} bytes",
    f"An offer stays open for {PASTE_TIMEOUT:.0f} s",
    f"At most {assisting.MAX_ASSISTED} such at a time",
    f"waits {arrivals.HELP_WAIT:.0f} s at most",
    ("", "once", "twice", "three times")[MAX_CLOCK_REFUSALS] + " for a token at most",
    f"after {outbox.RETRY_INTERVAL:.0f} s, doubling to {outbox.MAX_RETRY_INTERVAL:.0f} s",
    f"At most {outbox.MAX_IN_FLIGHT} to one peer are unacknowledged",
    f"order of preference, at most {session_description.MAX_CANDIDATES}",
    f"In a message a description has at most {parts.MAX_DESCRIPTION_SIZE:,} bytes",
)


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("said", SAID)
def test_numbers_of_the_protocol_are_those_of_the_code(said: str) -> None:
    assert said in flat((ROOT / "docs/protocol.md").read_text())


def test_events_that_an_operator_should_act_on_exist() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("### Log lines to act on") : page.index("### Counters")]
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for event in re.findall(r"`(\w+)`", row):
            assert event in NOTIFICATIONS or event in DAEMON_LINES


def test_counters_of_the_page_exist() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("| counters | tell |") : page.index("#### Of links")]
    stems = [stem for stem in re.findall(r'count\(f"(\w+_)\{', SOURCES) if stem]
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert f'"{name}"' in SOURCES or name.startswith(tuple(stems)), name


def test_names_of_the_architecture_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    for name, method in re.findall(r"`([A-Z][A-Za-z]+)(?:\.(\w+))?(?:\([^`]*\))?`", page):
        known = name.isupper() or f"class {name}" in SOURCES
        assert known, name
        assert not method or re.search(rf"(?:def |\b){method}\b", SOURCES), f"{name}.{method}"
