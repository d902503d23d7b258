"""STUN Binding messages, against published bytes, aioice's codec, and anything at all."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from aioice import stun as aioice_stun
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.wire import stun
from meshd.wire.stun import BindingError, BindingMessage, BindingRequest, BindingSuccess

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")  # of RFC 5769
# RFC 5769 section 2.2 and 2.3: answers to a check, with software, address, integrity and fingerprint
ANSWER_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
ANSWER_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147"
    "0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
# RFC 5769 section 2.1: a check, with credentials
CHECK = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff"
    "80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249"
    "c1b571a280280004e57a3bcf"
)

ips = st.ip_addresses().map(str)
addresses = st.tuples(ips, st.integers(0, 65_535))
transactions = st.binary(min_size=12, max_size=12)
reasons = st.text(max_size=30).filter(lambda text: len(text.encode()) <= stun.MAX_REASON_SIZE)
messages: st.SearchStrategy[BindingMessage] = (
    st.builds(BindingRequest, transactions, st.booleans(), st.booleans())
    | st.builds(BindingSuccess, transactions, addresses, st.none() | addresses, st.none() | addresses)
    | st.builds(
        BindingError,
        transactions,
        st.integers(300, 699),
        reasons,
        st.lists(st.integers(0, 65_535), max_size=stun.MAX_UNKNOWN).map(tuple),
    )
)


def test_published_answers() -> None:
    assert stun.decode(ANSWER_IPV4) == BindingSuccess(TRANSACTION, ("192.0.2.1", 32853))
    assert stun.decode(ANSWER_IPV6) == BindingSuccess(TRANSACTION, ("2001:db8:1234:5678:11:2233:4455:6677", 32853))


def test_a_check_of_ice_is_told_from_a_plain_request() -> None:
    assert stun.decode(CHECK) == BindingRequest(TRANSACTION, is_check=True)
    assert stun.decode(stun.encode(BindingRequest(TRANSACTION))) == BindingRequest(TRANSACTION)


@given(messages, st.booleans())
def test_every_message_comes_back(message: BindingMessage, fingerprint: bool) -> None:
    data = stun.encode(message, fingerprint=fingerprint)
    assert stun.is_stun(data)
    assert stun.decode(data) == message


KINDS = (b"\x00\x01", b"\x01\x01", b"\x01\x11", b"\x00\x03")
NUMBERS = (0x0001, 0x0003, 0x0006, 0x0008, 0x0009, 0x000A, 0x0020, 0x8028, 0x802B, 0x802C, 0x0077)
attributes = st.builds(
    lambda number, value, lie: number.to_bytes(2, "big") + (len(value) + lie).to_bytes(2, "big") + value,
    st.sampled_from(NUMBERS),
    st.binary(max_size=24),
    st.sampled_from((0, 0, 0, 1, 4)),
)
likely = st.builds(
    lambda kind, body: kind + len(body).to_bytes(2, "big") + stun.COOKIE + TRANSACTION + body,
    st.sampled_from(KINDS),
    st.lists(attributes, max_size=stun.MAX_ATTRIBUTES + 2).map(b"".join).map(lambda body: body + bytes(-len(body) % 4)),
)


@given(st.binary(max_size=200) | likely)
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        stun.decode(data)


@given(messages, st.data())
def test_a_changed_message_is_a_message_or_malformed(message: BindingMessage, data: st.DataObject) -> None:
    whole = bytearray(stun.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        stun.decode(bytes(whole))


@given(messages, st.data())
def test_a_damaged_message_with_a_fingerprint_is_refused(message: BindingMessage, data: st.DataObject) -> None:
    whole = bytearray(stun.encode(message, fingerprint=True))
    whole[data.draw(st.integers(8, 19))] ^= 1 << data.draw(st.integers(0, 7))  # lengths stay as they are
    with pytest.raises(MalformedMessage):
        stun.decode(bytes(whole))


@given(addresses, st.binary(min_size=12, max_size=12))
def test_another_implementation_reads_ours(address: stun.Address, transaction: bytes) -> None:
    theirs = aioice_stun.parse_message(stun.encode(BindingSuccess(transaction, address), fingerprint=True))
    host, port = theirs.attributes["XOR-MAPPED-ADDRESS"]
    assert (str(ipaddress.ip_address(host)), port) == address
    request = aioice_stun.parse_message(stun.encode(BindingRequest(transaction)))
    assert request.message_method == aioice_stun.Method.BINDING
    assert request.message_class == aioice_stun.Class.REQUEST
    assert request.transaction_id == transaction


def test_we_read_another_implementations() -> None:
    request = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST, TRANSACTION)
    assert stun.decode(bytes(request)) == BindingRequest(TRANSACTION)
    answer = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.ERROR, TRANSACTION)
    answer.attributes["ERROR-CODE"] = (420, "Unknown Attribute")
    assert stun.decode(bytes(answer)) == BindingError(TRANSACTION, 420, "Unknown Attribute")


def test_what_must_be_understood_and_is_not_is_listed() -> None:
    strange = b"\x00\x77\x00\x01\xff\x00\x00\x00" + b"\x80\x77\x00\x00"  # one of each half of the numbers
    request = stun.encode(BindingRequest(TRANSACTION))
    assert stun.decode(request[:2] + b"\0\x0c" + request[4:] + strange) == BindingRequest(TRANSACTION, unknown=(0x77,))


def test_the_address_of_an_old_server_counts() -> None:
    data = b"\x01\x01\x00\x0c" + stun.COOKIE + TRANSACTION + b"\x00\x01\x00\x08\x00\x01\x10\x92\xc6\x33\x64\x07"
    assert stun.decode(data) == BindingSuccess(TRANSACTION, ("198.51.100.7", 4242))


@pytest.mark.parametrize(
    "message",
    [
        BindingRequest(b"short"),
        BindingRequest(TRANSACTION, unknown=(7,)),
        BindingSuccess(TRANSACTION, ("example.org", 1)),
        BindingSuccess(TRANSACTION, ("192.0.2.1", 65_536)),
        BindingError(TRANSACTION, 200),
        BindingError(TRANSACTION, 420, unknown=tuple(range(9))),
    ],
)
def test_what_cannot_be_said_is_a_mistake_of_ours(message: BindingMessage) -> None:
    with pytest.raises(LocalMisuse):
        stun.encode(message)
