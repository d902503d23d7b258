"""The identity file: made once, kept for ever."""

import contextlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.daemon import keys
from meshd.daemon.keys import IdentityKeys
from meshd.errors import StoreError


def refusal(directory: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(StoreError) as caught:
        keys.load(directory, environment or {})
    return str(caught.value)


def test_made_once_private_and_the_same_ever_after(tmp_path: Path) -> None:
    first = keys.load(tmp_path, {})
    path = tmp_path / keys.KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first.identity) == 32
    assert first.sealing is None
    assert keys.load(tmp_path, {}) == first
    assert [entry.name for entry in tmp_path.iterdir()] == [keys.KEY_FILE]
    assert path.read_text().startswith("# meshd identity")


def test_interrupted_first_start_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / (keys.KEY_FILE + ".new")).write_text("half a")
    assert keys.load(tmp_path, {}) == keys.load(tmp_path, {})


def test_credential_comes_first_and_nothing_is_written(tmp_path: Path) -> None:
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    state.mkdir()
    given_keys = IdentityKeys(bytes(range(32)), bytes(32))
    path = credentials / "identity"
    path.write_text(keys.render(given_keys))
    path.chmod(0o400)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert keys.load(state, environment) == given_keys
    assert list(state.iterdir()) == []
    path.unlink()
    assert keys.load(state, environment) != given_keys
    assert [entry.name for entry in state.iterdir()] == [keys.KEY_FILE]


def test_readable_by_others_is_refused(tmp_path: Path) -> None:
    keys.load(tmp_path, {})
    (tmp_path / keys.KEY_FILE).chmod(0o640)
    assert "chmod 600" in refusal(tmp_path)


def test_the_first_sealing_key_leaves_the_file_when_the_store_has_it(tmp_path: Path) -> None:
    path = tmp_path / keys.KEY_FILE
    path.write_text(keys.render(IdentityKeys(bytes(32), b"s" * 32)))
    path.chmod(0o600)
    assert keys.load(tmp_path, {}).sealing == b"s" * 32
    for _ in range(2):
        keys.forget_sealing(tmp_path)
        assert keys.load(tmp_path, {}) == IdentityKeys(bytes(32))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in tmp_path.iterdir()] == [keys.KEY_FILE]


GOOD = keys.render(IdentityKeys(bytes(32), bytes(32)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a line is missing"),
        (GOOD[:-20].encode(), "line 3"),
        (GOOD.replace("sealing", "healing").encode(), "line 3 is neither"),
        ((GOOD + GOOD).encode(), "line 5 is neither"),
        (b"identity AAAA\n", "line 1 has 3 bytes, not 32"),
        (b"\xff\xfe", "it is not text"),
        (b"#" * 5000, "larger than 4096 bytes"),
    ],
)
def test_mangled_file_is_explained_and_left_alone(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / keys.KEY_FILE
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)
    message = refusal(tmp_path)
    assert expected in message
    assert "Restore it from a backup" in message
    assert path.read_bytes() == content


def test_secrets_show_in_no_repr() -> None:
    assert repr(IdentityKeys(b"secret", b"hidden")) == "IdentityKeys()"


@given(st.binary(min_size=32, max_size=32), st.none() | st.binary(min_size=32, max_size=32))
def test_file_format_round_trips(identity: bytes, sealing: bytes | None) -> None:
    assert keys.parse(keys.render(IdentityKeys(identity, sealing))) == IdentityKeys(identity, sealing)


@given(st.text())
def test_any_text_is_keys_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(keys.parse(text).identity) == 32
