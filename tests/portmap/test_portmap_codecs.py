from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import LocalMisuse, MalformedMessage
from meshd.portmap import igd, nat_pmp, pcp, plain_xml

NONCE = bytes(range(12))
PORTS = st.integers(1, 65_535)
V4 = st.ip_addresses(v=4).map(str)
ADDRESSES = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None).map(str)


def as_answer(request: bytes, result: int = 0, epoch: int = 7) -> bytes:
    """What a PCP server makes of a request: the same fields, with its own header."""
    head = bytes((2, request[1] | 0x80, 0, result)) + request[4:8] + epoch.to_bytes(4, "big") + bytes(12)
    return head + request[24:]


# -- PCP --------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=1_200))
def test_any_bytes_are_a_pcp_answer_or_malformed(data):
    for candidate in (data, b"\x02\x81\x00\x00" + data, b"\x02\x80\x00\x00" + data):
        try:
            answer = pcp.decode(candidate)
        except MalformedMessage:
            continue
        assert answer.result_name


@given(ADDRESSES, PORTS, PORTS, st.integers(0, 2**32 - 1), ADDRESSES)
def test_what_is_asked_of_pcp_comes_back_in_its_answer(client, port, external_port, lifetime, external):
    request = pcp.encode_map(client, NONCE, port, lifetime, (external, external_port))
    assert len(request) == 60
    answer = pcp.decode(as_answer(request))
    assert answer == pcp.Answer(
        pcp.MAP, pcp.SUCCESS, lifetime, 7, pcp.Assigned(NONCE, pcp.UDP, port, external, external_port)
    )


def test_a_pcp_request_is_laid_out_as_the_rfc_draws_it():
    request = pcp.encode_map("192.168.1.2", NONCE, 4_242, 1_800)
    assert request[:8] == bytes((2, 1, 0, 0)) + (1_800).to_bytes(4, "big")
    assert request[8:24] == bytes(10) + b"\xff\xff" + bytes((192, 168, 1, 2))
    assert request[24:36] == NONCE
    assert request[36:44] == bytes((17, 0, 0, 0)) + (4_242).to_bytes(2, "big") + bytes(2)
    assert request[44:] == bytes(10) + b"\xff\xff" + bytes(4)
    assert pcp.encode_announce("2001:db8::7")[:2] == bytes((2, 0))


def test_pcp_answers_that_are_none():
    good = as_answer(pcp.encode_map("10.0.0.2", NONCE, 1, 1))
    for bad in (
        good[:24],  # a mapping without one
        good[:-1],
        b"",
        b"\x02\x01" + good[2:],  # a request
        b"\x01" + good[1:],  # another version, and not to say so
        bytes((0, 129, 0, 1)) + bytes(4),  # what a NAT-PMP server says to PCP
        good + bytes(1_100),
    ):
        with pytest.raises(MalformedMessage):
            pcp.decode(bad)


def test_a_pcp_refusal_may_come_without_its_mapping():
    refused = as_answer(pcp.encode_map("10.0.0.2", NONCE, 1, 30), result=2)
    assert pcp.decode(refused[:24]).result_name == "not_authorized"
    assert pcp.decode(refused).assigned is not None
    assert pcp.decode(as_answer(pcp.encode_announce("10.0.0.2"), result=200)).result_name == "unknown_result"


@pytest.mark.parametrize(
    "arguments", [("nowhere", NONCE, 1, 1), ("10.0.0.2", b"", 1, 1), ("10.0.0.2", NONCE, 0, 1), ("::1", NONCE, 1, -1)]
)
def test_pcp_is_not_asked_for_nonsense(arguments):
    with pytest.raises(LocalMisuse):
        pcp.encode_map(*arguments)


# -- NAT-PMP ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_any_bytes_are_a_nat_pmp_answer_or_malformed(data):
    for candidate in (data, b"\x00\x80" + data, b"\x00\x81\x00\x00" + data):
        try:
            nat_pmp.decode(candidate)
        except MalformedMessage:
            continue


def test_nat_pmp_answers():
    assert nat_pmp.decode(bytes.fromhex("0080 0000 0000000a cb007107")) == nat_pmp.ExternalAddress("203.0.113.7", 10)
    assert nat_pmp.decode(bytes.fromhex("0081 0000 0000000a 1092 1093 00000e10")) == nat_pmp.Mapped(
        4_242, 4_243, 3_600, 10
    )
    failure = nat_pmp.decode(bytes.fromhex("0081 0002 0000000a"))
    assert isinstance(failure, nat_pmp.Failure)
    assert failure.result_name == "not_authorized"
    assert nat_pmp.encode_map(4_242, 4_243, 3_600) == bytes.fromhex("0001 0000 1092 1093 00000e10")
    for bad in ("0080 0000 0000000a", "0081 0000 0000000a 1092", "0100 0000 00000000 00000000", "0085 0000 00000000"):
        with pytest.raises(MalformedMessage):
            nat_pmp.decode(bytes.fromhex(bad))
    with pytest.raises(LocalMisuse):
        nat_pmp.encode_map(0, 1, 1)


# -- XML --------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200) | st.text("<>/&;ab! \"'=?xmlDOCTYPEnt[]", max_size=80).map(str.encode))
def test_any_bytes_are_xml_or_malformed(data):
    with contextlib.suppress(MalformedMessage):
        assert plain_xml.parse(data).name is not None


@pytest.mark.parametrize(
    "text",
    [
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>&b;</a>",
        b"<a>" * 40 + b"</a>" * 40,
        b"<r>" + b"<a/>" * 5_000 + b"</r>",
        b"<a>" + b" " * plain_xml.MAX_XML_SIZE + b"</a>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b'<?xml version="1.0" encoding="undefined"?><a/>',
        b'<?xml version="1.0" encoding="base64"?><a/>',
        b"<a><b></a>",
        b"",
    ],
)
def test_no_entities_no_depth_no_flood(text):
    with pytest.raises(MalformedMessage):
        plain_xml.parse(text)


def test_prefixes_need_not_be_declared_and_long_texts_are_cut():
    root = plain_xml.parse(b"<s:a><u:b> x </u:b><b>y</b><c>" + b"z" * 9_000 + b"</c></s:a>")
    assert root.name == "a"
    assert root.text_of("b") == "x"
    assert [b.text for b in root.every("b")] == ["x", "y"]
    assert len(root.text_of("c")) == plain_xml.MAX_TEXT_CHARS


# -- SSDP, descriptions, SOAP -----------------------------------------------------------------------------------------

ROUTER = "192.168.1.1"
AT = igd.Location(ROUTER, 5_000, "/rootDesc.xml")


def search_answer(location: str, target: str = igd.SEARCH_TARGETS[0]) -> bytes:
    lines = ("HTTP/1.1 200 OK", "CACHE-CONTROL: max-age=120", f"ST: {target}", f"Location: {location}", "EXT:", "", "")
    return "\r\n".join(lines).encode()


def description(*services: tuple[str, str], base: str = "") -> bytes:
    inner = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>{control}</controlURL></service>"
        for kind, control in services
    )
    nested = f"<device><deviceList><device><serviceList>{inner}</serviceList></device></deviceList></device>"
    url_base = f"<URLBase>{base}</URLBase>" if base else ""
    return f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{url_base}{nested}</root>'.encode()


IP1, IP2, PPP = "WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1"


def kind(name: str) -> str:
    return f"urn:schemas-upnp-org:service:{name}"


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_to_a_search_or_malformed(data):
    for candidate in (data, b"HTTP/1.1 200 OK\r\n" + data, search_answer("") + data):
        with pytest.raises(MalformedMessage):
            igd.decode_search_answer(candidate, ROUTER)


def test_the_router_is_found_at_itself_alone():
    answer = search_answer(f"http://{ROUTER}:5000/rootDesc.xml")
    assert igd.decode_search_answer(answer, ROUTER) == AT
    for elsewhere in (
        "http://192.168.1.2:5000/rootDesc.xml",
        "http://router.example/rootDesc.xml",
        f"https://{ROUTER}/x",
        f"http://{ROUTER}@192.168.1.2/x",
        f"http://{ROUTER}:0/x",
        f"http://{ROUTER}:99999/x",
        f"http://{ROUTER}.example/x",
        "http://0300.0250.1.1/x",
        f"http://{ROUTER}/a b",
        f"http://{ROUTER}/" + "x" * 600,
        "",
    ):
        with pytest.raises(MalformedMessage):
            igd.decode_search_answer(search_answer(elsewhere), ROUTER)
    with pytest.raises(MalformedMessage):
        igd.decode_search_answer(search_answer(AT.url, "upnp:rootdevice"), ROUTER)
    with pytest.raises(MalformedMessage):
        igd.decode_search_answer(answer, "192.168.1.66")
    with pytest.raises(MalformedMessage):
        igd.decode_search_answer(answer.replace(b"200 OK", b"404 No"), ROUTER)


def test_services_are_taken_in_order_of_preference():
    text = description(
        (kind(PPP), "/ppp"), ("urn:other", "/x"), (kind(IP1), "ctl/ip1"), (kind(IP2), f"http://{ROUTER}:5000/ip2")
    )
    services = igd.decode_description(text, AT)
    assert [(s.kind.rpartition(":service:")[2], s.control.path) for s in services] == [
        (IP2, "/ip2"),
        (IP1, "/ctl/ip1"),
        (PPP, "/ppp"),
    ]
    assert services[0].has_any_port
    assert not services[1].has_any_port
    based = igd.decode_description(description((kind(IP1), "ip"), base=f"http://{ROUTER}:49152/base/"), AT)
    assert based[0].control == igd.Location(ROUTER, 49_152, "/base/ip")
    assert igd.decode_description(description(), AT) == ()


@pytest.mark.parametrize(
    ("control", "base"),
    [("http://192.168.1.66/ctl", ""), ("//evil.example/ctl", ""), ("/ctl", "http://evil.example/"), ("http://[", "")],
)
def test_control_is_at_the_router_too(control, base):
    with pytest.raises(MalformedMessage):
        igd.decode_description(description((kind(IP1), control), base=base), AT)


@given(
    st.binary(max_size=200) | st.text("<>/ab:Envelope", max_size=60).map(str.encode), st.sampled_from([200, 500, 302])
)
def test_any_bytes_are_an_answer_to_an_action_or_malformed(data, status):
    with contextlib.suppress(MalformedMessage):
        igd.decode_action_answer(status, data, "GetExternalIPAddress")
    with contextlib.suppress(MalformedMessage):
        igd.decode_description(data, AT)


def test_actions_and_their_answers():
    service = igd.Service(kind(IP1), AT)
    headers, body = igd.encode_action(service, "AddPortMapping", igd.add_mapping("192.168.1.2", 4_242, 4_243, 1_800))
    assert headers["SOAPAction"] == f'"{kind(IP1)}#AddPortMapping"'
    assert headers["Content-Length"] == str(len(body))
    call = next(plain_xml.parse(body).every("AddPortMapping"))
    assert [child.name for child in call.children][:5] == [  # routers read them by position
        "NewRemoteHost",
        "NewExternalPort",
        "NewProtocol",
        "NewInternalPort",
        "NewInternalClient",
    ]
    assert call.text_of("NewLeaseDuration") == "1800"
    escaped = igd.encode_action(service, "X", {"A": "<&>"})[1]
    assert next(plain_xml.parse(escaped).every("A")).text == "<&>"

    good = b"<e:Envelope><e:Body><u:GetXResponse><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>"
    good += b"<NewReservedPort>77</NewReservedPort></u:GetXResponse></e:Body></e:Envelope>"
    answer = igd.decode_action_answer(200, good, "GetX")
    assert isinstance(answer, dict)
    assert igd.address_in(answer) == "203.0.113.7"
    assert igd.port_in(answer, "NewReservedPort") == 77
    assert igd.port_in({"p": "0"}, "p") is igd.port_in({"p": "²"}, "p") is igd.port_in({}, "p") is None
    assert igd.address_in({"NewExternalIPAddress": "0.0.0.0"}) is igd.address_in({}) is None

    fault = b"<e><UPnPError><errorCode>718</errorCode><errorDescription>x</errorDescription></UPnPError></e>"
    assert igd.decode_action_answer(500, fault, "GetX") == igd.Fault(718)
    assert igd.Fault(718).name == "port_taken"
    assert igd.decode_action_answer(500, b"<e/>", "GetX") == igd.decode_action_answer(404, b"", "GetX") == igd.Fault(0)
    with pytest.raises(MalformedMessage):
        igd.decode_action_answer(200, b"<e/>", "GetX")
    with pytest.raises(LocalMisuse):
        igd.encode_action(service, "X", {"A><B": ""})
