"""Which endpoints may be dialled: URLs, addresses, names."""

from __future__ import annotations

import ipaddress
import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshd.errors import Rejected
from meshd.push.checked_connect import CheckedBackend, resolve_checked
from meshd.push.endpoint_policy import parse_endpoint
from meshd.push_services import MAX_ENDPOINT_SIZE
from meshd.special_addresses import forbidden_address, forbidden_by

TRUSTED = ("http://127.0.0.1:8080", "https://push.home.example", "http://[::1]:9000")
CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("2002::/16"))  # judged by what they carry

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://push.example/a", "not_https"),
        ("ftp://push.example/a", "not_https"),
        ("file:///etc/passwd", "malformed"),
        ("//push.example/a", "malformed"),
        ("", "malformed"),
        ("https://", "malformed"),
        ("https:///a", "malformed"),
        ("https://user:word@push.example/a", "userinfo"),
        ("https://push.example@127.0.0.1/a", "userinfo"),
        ("https://push.example:0/", "malformed"),
        ("https://push.example:65536/", "malformed"),
        ("https://push.example:/", "malformed"),
        ("https://push.example/a b", "malformed"),
        ("https://push.example/a\r\nHost: other", "malformed"),
        ("https://push.example/\n", "malformed"),
        ("https://push.example\\@127.0.0.1/", "userinfo"),
        ("https://push.example\\.127.0.0.1/", "malformed"),
        ("https://push.example#@127.0.0.1/", "malformed"),
        ("https://pu\u015bh.example/", "malformed"),
        ("https://push..example/", "malformed"),
        ("https://-push.example/", "malformed"),
        ("https://push.example./", "malformed"),
        ("https://" + "a." * 127 + "example/", "malformed"),
        ("https://127.0.0.1/", "loopback"),
        ("https://127.1/", "malformed"),
        ("https://0x7f000001/", "malformed"),
        ("https://2130706433/", "malformed"),
        ("https://0177.0.0.1/", "malformed"),
        ("https://127.0.0.0x1/", "malformed"),
        ("https://10.1.2.3/", "private"),
        ("https://169.254.169.254/latest/meta-data", "link_local"),
        ("https://100.64.0.1/", "cgnat"),
        ("https://0.0.0.0/", "unspecified"),
        ("https://255.255.255.255/", "reserved"),
        ("https://[::1]/", "loopback"),
        ("https://[::]/", "unspecified"),
        ("https://[::ffff:127.0.0.1]/", "loopback"),
        ("https://[::127.0.0.1]/", "reserved"),
        ("https://[64:ff9b::192.168.1.1]/", "private"),
        ("https://[64:ff9b:1::1]/", "private"),
        ("https://[2002:7f00:1::]/", "loopback"),
        ("https://[2001:0:1::1]/", "reserved"),
        ("https://[fd00::1]/", "unique_local"),
        ("https://[fe80::1]/", "link_local"),
        ("https://[fe80::1%25eth0]/", "malformed"),
        ("https://[ff02::1]/", "multicast"),
        ("https://224.0.0.251/", "multicast"),
        ("https://[::ffff:100.64.0.1]/", "cgnat"),
        ("https://[64:ff9b::6440:1]/", "cgnat"),
        ("https://[2002:a00:1::1]/", "private"),
        ("https://[fec0::1]/", "private"),
        ("https://198.18.0.1/", "reserved"),
        ("https://192.0.2.1/", "documentation"),
        ("https://[2001:db8::1]/", "documentation"),
        ("https://[1::2::3]/", "malformed"),
        ("https://push.example/" + "a" * MAX_ENDPOINT_SIZE, "too_long"),
        ("http://127.0.0.1:8081/", "not_https"),
        ("https://127.0.0.1:8080/", "loopback"),
        ("http://push.home.example/", "not_https"),
    ],
)
def test_refused(url: str, reason: str) -> None:
    with pytest.raises(Rejected) as refusal:
        parse_endpoint(url, TRUSTED)
    assert refusal.value.reason == reason
    assert len(url) < 20 or url[8:20] not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "parts", "trusted"),
    [
        ("https://Push.Example/v2/gA_-=?x=%20", ("https", "push.example", 443, "/v2/gA_-=?x=%20"), False),
        ("HTTPS://push.example:8443", ("https", "push.example", 8443, "/"), False),
        ("https://push.example?up=1", ("https", "push.example", 443, "/?up=1"), False),
        ("https://8.8.8.8/a", ("https", "8.8.8.8", 443, "/a"), False),
        ("https://[2606:4700::1111]/a", ("https", "2606:4700::1111", 443, "/a"), False),
        ("https://[64:ff9b::8.8.8.8]/a", ("https", "64:ff9b::808:808", 443, "/a"), False),
        ("http://127.0.0.1:8080/push/x", ("http", "127.0.0.1", 8080, "/push/x"), True),
        ("http://[0:0::1]:9000/push/x", ("http", "::1", 9000, "/push/x"), True),
        ("https://PUSH.home.example:443/x", ("https", "push.home.example", 443, "/x"), True),
    ],
)
def test_taken(url: str, parts: tuple[str, str, int, str], trusted: bool) -> None:
    endpoint = parse_endpoint(url, TRUSTED)
    assert (endpoint.scheme, endpoint.host, endpoint.port, endpoint.target) == parts
    assert endpoint.trusted is trusted
    assert endpoint.target not in repr(endpoint) or endpoint.target == "/"


@given(st.text())
def test_any_text_is_an_endpoint_or_rejected(text: str) -> None:
    for url in (text, "https://" + text, "https://a.example/" + text, f"https://[{text}]:1/"):
        try:
            endpoint = parse_endpoint(url)
        except Rejected:
            continue
        assert endpoint.scheme == "https"
        assert endpoint.target.isascii()
        assert endpoint.target.isprintable()
        assert " " not in endpoint.target


@given(st.ip_addresses())
def test_what_may_be_dialled_is_global(address: Address) -> None:
    if forbidden_by(address) is None and not any(address in network for network in CARRIERS):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_private
    assert forbidden_address(str(address)) == forbidden_by(address)


@given(st.ip_addresses(v=4))
def test_a_carried_address_is_judged_like_itself(address: ipaddress.IPv4Address) -> None:
    value = int(address)
    expected = forbidden_by(address)
    for carrier in ((0xFFFF << 32) | value, (0x64FF9B << 96) | value, (0x2002 << 112) | (value << 80) | 1):
        assert forbidden_by(ipaddress.IPv6Address(carrier)) == expected


@given(st.ip_addresses(), st.integers(1, 65535))
def test_a_url_with_an_address_is_judged_by_it(address: Address, port: int) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    rule = forbidden_by(address)
    if rule is None:
        parse_endpoint(f"https://{host}:{port}/x")
        return
    with pytest.raises(Rejected, match=rule):
        parse_endpoint(f"https://{host}:{port}/x")


def test_what_is_no_address_is_refused() -> None:
    assert forbidden_address("fe80::1%eth0") == "link_local"
    assert forbidden_address("nonsense") == "malformed"


# -- names ------------------------------------------------------------------------------------------------------------


class Resolver(trio.abc.HostnameResolver):
    """A DNS that says something else each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002
        self.asked += 1
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, type, proto, "", (address, port))
            for address in self.answers.pop(0)
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


async def test_one_forbidden_address_refuses_the_name() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(["8.8.8.8", "192.168.0.1"]))
    with pytest.raises(Rejected, match="private"):
        await resolve_checked("push.example", 443)


async def test_the_checked_addresses_are_the_ones_dialled() -> None:
    # A rebinding name: public when checked, loopback when asked again. It must not be asked again.
    resolver = Resolver(["8.8.8.8"], ["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    assert await resolve_checked("push.example", 443) == ["8.8.8.8"]
    assert resolver.asked == 1


async def test_a_name_for_loopback_is_not_dialled() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    trio.socket.set_custom_hostname_resolver(Resolver(["127.0.0.1"]))
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(Rejected, match="loopback"):
        await CheckedBackend().connect_tcp("push.example", port)
    with trio.move_on_after(0.02):
        await listeners[0].accept()
        pytest.fail("somebody knocked")
    await listeners[0].aclose()
