"""ntfy's messages and our files, without any server."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from ntfy_rig import SERVICE, A

from meshd.errors import ConfigError, MalformedMessage
from meshd.push import ntfy
from meshd.push.ntfy_position import MAX_REMEMBERED, Position
from meshd.push.ntfy_state import NtfyState, file_record
from meshd.push.token_file import read_token


def test_a_position_remembers_no_more_than_it_may_though_nothing_is_ever_done() -> None:
    position = Position()
    for number in range(MAX_REMEMBERED + 10):
        assert position.begin(f"{number:012}", number, kept=True)
    assert position.begin(f"{0:012}", 0, kept=True)  # forgotten
    assert not position.begin(f"{MAX_REMEMBERED:012}", 0, kept=True)
    for number in range(MAX_REMEMBERED + 10):
        position.finish(f"{number:012}")
    assert len(position.taken()) <= MAX_REMEMBERED


async def test_the_file_is_whole_or_not_there(tmp_path: Path) -> None:
    record = file_record(tmp_path, SERVICE, False)
    assert await record.read() is None
    state = NtfyState.new("upAAAAAAAAAAAA")
    state.streams[0].topics["upBBBBBBBBBBBB"] = A
    for _ in range(2):
        await record.write(state.render())
    assert NtfyState.parse(await record.read() or "").render() == state.render()
    (file,) = await trio.to_thread.run_sync(lambda: list(tmp_path.iterdir()))
    assert file.stat().st_mode & 0o077 == 0
    await record.remove()
    assert await record.read() is None


def test_a_token_comes_from_a_file_of_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert read_token("") == ""
    for text, mode, problem in (("tk_1\n", 0o644, "chmod 600"), ("\n", 0o600, "one line"), ("a b", 0o600, "one line")):
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(ConfigError, match=problem):
            read_token(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(str(tmp_path / "other"))
    path.write_text("tk_secret\n")
    assert read_token(str(path)) == "tk_secret"


_VALUES = (
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["message", "base64", "a" * 12, "up" + "a" * 12])
)
_KEYS = ("id", "time", "event", "topic", "message", "encoding", "expires")


@given(st.text(max_size=20) | st.fixed_dictionaries({}, optional=dict.fromkeys(_KEYS, _VALUES)).map(json.dumps))
def test_any_text_is_a_message_or_malformed(text: str) -> None:
    with suppress(MalformedMessage):
        ntfy.parse(text)


@given(st.text() | st.sampled_from(['{"version":1}', "[]", '{"version":1,"uaid":"upAAAAAAAAAAAA","streams":[{}]}']))
def test_any_text_is_a_state_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        NtfyState.parse(text)
