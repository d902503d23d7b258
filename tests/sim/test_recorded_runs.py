"""A recording of a node with real keys is played again to the byte; other code is told apart from it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshd.recording
from meshd.config import Config
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.membership.membership import Membership
from meshd.core.node import Node
from meshd.errors import MalformedMessage
from meshd.ids import LinkId, Now, RequestId
from meshd.recording import Recorder, pack, read, unpack
from meshd.sim.__main__ import main
from meshd.sim.replay import Replay
from meshd.wire.session_description import Candidate, SessionDescription

NOW = 1_800_000_000.0


class Recorded:
    """A node with real keys whose disk is quick and whose push service is ours."""

    def __init__(self, path: Path) -> None:
        self.recorder = Recorder(path, b"i" * 32, b"s" * 32)
        self.node = Node(Config(), self.recorder.suite, self.recorder.dice, {})
        self.recorder.begin(self.node, Config(), {})
        self.time = 10.0

    def handle(self, *events: ev.Event) -> list[cm.Command]:
        queue: list[ev.Event] = list(events)
        given_: list[cm.Command] = []
        for event in queue:
            self.time += 0.25
            for command in self.recorder.handle(event, Now(self.time, NOW + self.time)):
                given_.append(command)
                queue.extend(self.answer(command))
        return given_

    @staticmethod
    def answer(command: cm.Command) -> list[ev.Event]:
        match command:
            case cm.Persist(ticket):
                return [ev.Persisted(ticket)]
            case cm.OpenUserAgent(service, _, newcomers):
                return [ev.UserAgentConnected(service, "ours", newcomers)]
            case cm.RegisterChannel(_, channel):
                return [ev.ChannelRegistered(channel, "https://push.example/wpush/v2/abc")]
            case cm.SendPush(push):
                return [ev.PushAnswered(push, 201)]
        return []


def a_life(recorded: Recorded) -> None:
    found = {"mesh_name": "home", "name": "a", "mesh_key": b"k" * 32}
    recorded.handle(ev.Started(), ev.Requested(RequestId(1), "mesh.found", found))
    recorded.handle(ev.Requested(RequestId(2), "introductions.mint", {"uses": 2}), ev.TimerFired())
    recorded.handle(ev.PushReceived("mozilla", b"c" * 16, "1", b"nothing"), ev.AddressesChanged(("192.0.2.1",)))  # type: ignore[arg-type]
    recorded.time += 100.0
    recorded.handle(ev.TimerFired(), ev.Requested(RequestId(3), "keys.rotate", {}))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    recorded = Recorded(path)
    a_life(recorded)
    recorded.recorder.close()
    return path


def test_the_replay_is_the_same_to_the_byte(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay = Replay(recording)
    assert list(replay.play()) == []
    assert replay.outcome.events == replay.outcome.exact > 10
    assert replay.outcome.missed == 0
    assert main(["replay", str(recording), "--at", "20"]) == 0
    shown = capsys.readouterr().out
    assert "0 something else" in shown
    assert "timers:" in shown
    assert "member a" in shown


def test_what_differs_is_told(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine: Callable[..., Any] = Membership.renew_record
    monkeypatch.setattr(Membership, "renew_record", lambda self: (self._ctx.notify("clock_jumped"), genuine(self)))
    replay = Replay(recording)
    lines = list(replay.play())
    assert replay.outcome.different > 0
    assert any("Notify" in line for line in lines)


def test_the_file_is_its_owners_alone_and_new(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    Recorded(path).recorder.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        Recorded(path)


def test_it_ends_before_it_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshd.recording, "MAX_RECORDING_SIZE", 3000)
    recorded = Recorded(tmp_path / "recording")
    a_life(recorded)
    assert recorded.recorder.is_full
    assert (tmp_path / "recording").stat().st_size <= 3000
    replay = Replay(tmp_path / "recording")
    assert list(replay.play()) == []
    assert replay.outcome.events == replay.outcome.exact


def test_a_frame_that_is_cut_off_is_left_out(recording: Path) -> None:
    whole = len(list(read(recording)[1]))
    recording.write_bytes(recording.read_bytes()[:-5])
    assert len(list(read(recording)[1])) == whole - 1


def test_what_is_no_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"hello, this is no recording")
    with pytest.raises(SystemExit):
        main(["replay", str(path)])
    assert "no recording" in capsys.readouterr().err


def test_events_go_through_the_file_as_they_are() -> None:
    description = SessionDescription("ufrag", "p" * 24, b"f" * 32, "actpass", (Candidate("host", "192.0.2.1", 7000),))
    for event in (
        ev.LinkPrepared(LinkId(1), description),
        ev.Requested(RequestId(1), "x", {"a": [1, (2, 3)], "b": {"c": b"d"}, "e": None, "f": 1.5, "g": 1 << 200}),
        ev.Reconfigured(Config()),
        ev.StreamEnded(LinkId(1), 5, "done", 1, 2),
    ):
        assert unpack(pack(event)) == event


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        unpack(data)
    except MalformedMessage:
        return
