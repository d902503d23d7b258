"""Checks that are written and read in place, against aioice, which does it at length."""

from __future__ import annotations

import asyncio

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from link_ends import run_clean

from meshd.links import consent
from meshd.links.consent import (
    ICE_CONTROLLING,
    MESSAGE_INTEGRITY,
    REQUEST,
    RESPONSE,
    USERNAME,
    CheckKey,
    Consent,
    attribute,
    attributes_of,
    is_authentic,
    mapped_address,
    sealed,
)
from meshd.links.demux import Awaiting
from meshd.links.guest import from_asyncio
from meshd.links.ticks import Ticks

KEY = b"a password of the peer"
TRANSACTION = bytes(range(12))
PEER = ("192.0.2.1", 5_000)


@pytest.mark.parametrize("address", [("192.0.2.7", 65_535), ("2001:db8::7", 1)])
def test_upstream_reads_what_we_write(address):
    answer = stun.parse_message(sealed(RESPONSE, TRANSACTION, mapped_address(address, TRANSACTION), KEY))
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == address
    assert answer.check_message_integrity(KEY)
    assert not answer.check_message_integrity(b"another")


def test_we_read_what_upstream_writes():
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, TRANSACTION)
    request.attributes.update({"USERNAME": "ours:theirs", "PRIORITY": 1, "ICE-CONTROLLING": 7})
    request.add_message_integrity(KEY)
    data = bytes(request)
    attributes = attributes_of(data)
    assert attributes[USERNAME][1] == b"ours:theirs"
    assert ICE_CONTROLLING in attributes
    assert is_authentic(data, attributes, KEY)
    assert not is_authentic(data, attributes, b"another")
    for position in (9, 25, attributes[MESSAGE_INTEGRITY][0] + 5):
        spoilt = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        assert not is_authentic(spoilt, attributes_of(spoilt), KEY)


@given(st.binary(max_size=200))
def test_any_bytes_have_some_attributes_or_none(data):
    for message in (data, sealed(REQUEST, TRANSACTION, data[: len(data) & ~3], KEY)):
        attributes = attributes_of(message)
        assert all(message[start + 4 :].startswith(value) for start, value in attributes.values())
        is_authentic(message, attributes, KEY)


def test_nothing_after_the_proof_counts():
    message = sealed(REQUEST, TRANSACTION, b"", KEY) + attribute(USERNAME, b"smuggled in")
    message = message[:2] + (len(message) - 20).to_bytes(2, "big") + message[4:]
    assert USERNAME not in attributes_of(message)


def test_asks_again_what_is_not_answered_and_believes_only_the_peer(monkeypatch):
    monkeypatch.setattr(consent, "INTERVAL", 0.2)
    monkeypatch.setattr(consent, "TIMEOUT", 0.3)
    monkeypatch.setattr(consent, "GIVE_UP_TIMEOUT", 0.5)
    monkeypatch.setattr(consent, "RETRY_INTERVAL", 0.01)

    async def work() -> None:
        sent: list[bytes] = []
        expired, doubted, regained = asyncio.Event(), asyncio.Event(), asyncio.Event()
        outstanding: dict[bytes, Awaiting] = {}
        ticks = Ticks(0.01)
        asking = Consent(
            CheckKey(username="theirs:ours", password=KEY.decode(), role=(ICE_CONTROLLING, 7)),
            send=sent.append,
            expired=expired.set,
            doubted=doubted.set,
            regained=regained.set,
            outstanding=outstanding,
            ticks=ticks,
        )
        while len(set(sent)) < 2:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        first = [message for message in sent if message == sent[0]]
        assert len(first) == 1 + consent.MAX_RETRIES
        transaction = sent[0][8:20]
        forged = sealed(RESPONSE, transaction, b"", b"another key")
        outstanding[transaction].take_response(forged, PEER)
        assert doubted.is_set()
        await asyncio.wait_for(expired.wait(), 5)
        assert asking.is_paused
        assert outstanding == {}

        answered = Consent(
            CheckKey(username="theirs:ours", password=KEY.decode(), role=(ICE_CONTROLLING, 7)),
            send=lambda message: answers.append(message),
            expired=expired.clear,
            doubted=doubted.set,
            regained=regained.set,
            outstanding=outstanding,
            ticks=ticks,
        )
        answers: list[bytes] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.8
        while loop.time() < until:
            await asyncio.sleep(0.005)
            for message in set(answers):
                outstanding[message[8:20]].take_response(sealed(RESPONSE, message[8:20], b"", KEY), PEER)
        assert expired.is_set(), "it is the first that expired"
        assert len(answers) < 4 * len(set(answers)), "what is answered is not sent again"
        answered.stop()
        asking.stop()
        assert outstanding == {}

    async def main() -> None:
        await from_asyncio(work())

    run_clean(main)
