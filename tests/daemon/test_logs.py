"""Log lines: their form, and what never stands in them."""

import base64
import contextlib
import io
import json
import logging
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from meshd.config import LogConfig
from meshd.core import commands, events
from meshd.daemon import logs, redaction
from meshd.daemon.driver import Driver
from meshd.ids import ChannelId, Now, PushId, RequestId, text_of


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines written since, as objects."""
    stream = io.StringIO()
    logs.configure(LogConfig(format="json", level="debug"), stream, {})
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    for handler in logging.getLogger().handlers[:]:
        if type(handler).__module__ == logs.__name__:
            logging.getLogger().removeHandler(handler)


def test_line_has_the_fixed_fields_first(log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("any").info("link_up", peer=bytes(32), link=3)
    (line,) = log_lines()
    assert list(line) == ["time", "level", "event", "peer", "link"]
    assert (line["level"], line["event"], line["peer"], line["link"]) == ("info", "link_up", text_of(bytes(32)), 3)
    assert line["time"].endswith("Z")


def test_level_can_be_changed_for_loggers_that_exist() -> None:
    log = structlog.get_logger("early")
    stream = io.StringIO()
    logs.configure(LogConfig(format="json", level="warning"), stream, {})
    log.info("too_quiet")
    logs.configure(LogConfig(format="json", level="info"), stream, {})
    log.info("loud_enough")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud_enough"]
    structlog.reset_defaults()


def test_console_is_for_people() -> None:
    stream = io.StringIO()
    logs.configure(LogConfig(format="console"), stream, {})
    structlog.get_logger().info("link_up", name="laptop")
    structlog.reset_defaults()
    assert "link_up" in stream.getvalue()
    assert "name=laptop" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_journal_gets_priorities(tmp_path: Any) -> None:
    with open(tmp_path / "journal", "w+") as stream:
        found = os.fstat(stream.fileno())
        logs.configure(LogConfig(), stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        structlog.get_logger().warning("clock_jumped", seconds=9)
        structlog.reset_defaults()
        stream.seek(0)
        assert stream.read().startswith('<4>{"time":')


def test_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as stream:
        logs.configure(LogConfig(format="json"), stream, {})
        structlog.get_logger().info("link_up")
        structlog.reset_defaults()
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_libraries_lines_are_caught_and_redacted(log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    logging.getLogger("hypercorn").warning("request to %s", "https://push.example.org/wpush/v2/secret")
    logging.getLogger("hypercorn").debug("headers")
    (line,) = log_lines()
    assert line["event"] == "library_message"
    assert line["text"] == "request to https://push.example.org/…"


def test_no_name_floods_the_log() -> None:
    now = 0.0
    limit = logs.LineLimit(lambda: now)

    def passes(name: str, method: str = "info") -> dict[str, Any] | None:
        try:
            return dict(limit(None, method, {"event": name}))
        except structlog.DropEvent:
            return None

    assert sum(passes("link_refused") is not None for _ in range(500)) == logs.MAX_LINES
    assert passes("link_up") is not None, "another name has its own allowance"
    assert all(passes("command", "debug") for _ in range(500))
    now = logs.LIMIT_INTERVAL
    assert passes("link_refused") == {"event": "link_refused", "suppressed": 500 - logs.MAX_LINES}
    assert passes("link_refused") == {"event": "link_refused"}


# -- secrets ----------------------------------------------------------------------------------------------------------


def _secret_texts(raw: bytes) -> list[str]:
    """The ways in which secret bytes are written down somewhere."""
    url64 = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    jwt = f"ey{url64}.ey{url64}.{url64}"
    return [
        f"meshd1_{url64}",
        f'pasted "meshd1_{url64}" and more',
        jwt,
        f"vapid t={jwt}, k={url64}",
        f"Authorization: vapid t={jwt},k={url64}",
        f"https://user:{url64}@push.example.org/wpush/v2/{url64}?a={url64}",
        f"wss://push.example.org/{raw.hex()}",
        url64,
        base64.b64encode(raw).decode(),
        raw.hex(),
        f"key={url64};",
    ]


def _spellings(raw: bytes) -> list[str]:
    """Texts that would give ``raw`` away if they stood in a line, whole or nearly."""
    plain, url64 = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    found = [plain, url64, raw.hex(), base64.b32encode(raw).decode().lower(), repr(raw)[2:-1], str(list(raw))]
    return [piece for text in found for piece in (text[:16], text[8:24])]


@pytest.mark.parametrize("seed", range(50))
def test_secret_in_any_field_never_shows(seed: int) -> None:
    raw = random.Random(seed).randbytes(32)
    written = [raw, bytearray(raw), *_secret_texts(raw)]
    line = json.dumps(
        [
            redaction.shown({"detail": value, "list": [value], "deep": {"deeper": (value,)}, "token": value})
            for value in written
        ]
    )
    assert [piece for piece in _spellings(raw) if piece in line] == []


def test_secrets_in_events_and_commands_never_reach_the_log(log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    rng = random.Random(5)
    raw = rng.randbytes(32)
    url64 = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    endpoint = f"https://push.example.org/wpush/v2/{url64}"
    channel = ChannelId(bytes(16))
    happened: list[events.Event] = [
        events.MessageReceived(events.LinkId(1), raw),
        events.UserAgentConnected("mozilla", raw.hex()),
        events.ChannelRegistered(channel, endpoint),
        events.PushReceived("mozilla", channel, url64, raw),
        events.PushAnswered(PushId(1), 0, f"refused: {endpoint}"),
        events.Requested(RequestId(1), "mesh.join", {"token": f"meshd1_{url64}"}),
    ]
    told: list[commands.Command] = [
        commands.Persist(commands.Ticket(1), (commands.Put("mesh", raw, raw),)),
        commands.SendMessage(events.LinkId(1), raw),
        commands.RegisterChannel("mozilla", channel, raw),
        commands.SendPush(PushId(1), endpoint, f"vapid t=ey{url64}, k={url64}", raw, 60, "high", url64[:32]),
        commands.Respond(RequestId(1), {"token": f"meshd1_{url64}"}),
        commands.Notify("anything", {"secret": url64, "token": url64, "data": raw, "detail": endpoint}),
        commands.DeliverMessage({"body": raw}),
    ]

    class Core:
        def handle(self, event: events.Event, now: Now) -> list[commands.Command]:
            if isinstance(event, events.Stopping):
                raise ValueError(f"bad token meshd1_{url64} for {endpoint}")
            return told

        def next_deadline(self) -> float | None:
            return None

    log = structlog.get_logger()
    driver = Driver(Core(), trace=True, observe=lambda command, now: log.info("observed", detail=command))
    kinds = {type(command) for command in told} - {commands.Respond, commands.Notify, commands.DeliverMessage}
    driver.attach(lambda command: None, *kinds)
    for event in happened:
        driver.deliver(event)
    driver.deliver(events.Stopping())
    lines = log_lines()
    assert {"event", "command", "core_failed"} <= {line["event"] for line in lines}
    assert "ValueError" in next(line for line in lines if line["event"] == "core_failed")["exception"]
    text = json.dumps(lines)
    assert [piece for piece in _spellings(raw) if piece in text] == []


def test_what_is_no_secret_stays_readable() -> None:
    for kept in (
        "link_down",
        text_of(bytes(range(32))),
        "/var/lib/meshd/some-long-directory-name/with_more/meshd.db",
        "meshd.core.membership_and_other_long_module_names",
        "192.0.2.1:3478",
        "No member has that name or id.",
    ):
        assert redaction.text(kept) == kept
    assert redaction.shown({"introduction": b"12345678"}) == {"introduction": text_of(b"12345678")}
    assert redaction.text("https://push.example.org/") == "https://push.example.org"
    assert redaction.shown({"token_id": "abc", "seconds": 3.5}) == {"token_id": "abc", "seconds": 3.5}


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.binary() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=8,
    )
)
def test_anything_can_be_logged(value: object) -> None:
    json.dumps(redaction.shown(value), allow_nan=False)


def test_long_texts_are_cut() -> None:
    assert len(redaction.text("x y " * 10_000)) == redaction.MAX_SHOWN_CHARS + 1
