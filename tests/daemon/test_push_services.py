"""Push services by name and URL."""

from __future__ import annotations

import pytest

from meshd.push_services import Kind, parse_service


@pytest.mark.parametrize(
    ("text", "kind", "url", "stun_server"),
    [
        ("mozilla", Kind.AUTOPUSH, "wss://push.services.mozilla.com/", ""),
        ("wss://push.example.org/x", Kind.AUTOPUSH, "wss://push.example.org/x", "push.example.org:3478"),
        ("ws://[::1]:8080", Kind.AUTOPUSH, "ws://[::1]:8080", "[::1]:8080"),
        ("unifiedpush:https://ntfy.example.org/", Kind.UNIFIEDPUSH, "https://ntfy.example.org", ""),
        ("own", Kind.OWN, "", ""),
    ],
)
def test_what_a_service_is(text: str, kind: Kind, url: str, stun_server: str) -> None:
    service = parse_service(text)
    assert (service.name, service.kind, service.url, service.stun_server) == (text, kind, url, stun_server)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mozila", "did you mean 'mozilla'?"),
        ("https://push.example.org", "wss:// or ws://"),
        ("ws://", "wss:// or ws://"),
        ("unifiedpush:ntfy.example.org", "as unifiedpush:https://"),
        ("unifiedpush:https://ntfy.example.org/?up=1", "as unifiedpush:https://"),
        ("", "one of mozilla"),
    ],
)
def test_what_is_none_is_told_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"one of|as unifiedpush") as raised:
        parse_service(text)
    assert said in str(raised.value)


def test_what_a_service_cannot_do_has_words() -> None:
    assert parse_service("mozilla").traits.missing() == []
    assert "does not check who pushes" in parse_service("unifiedpush:https://ntfy.example.org").traits.missing()
