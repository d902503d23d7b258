"""The daemon's command line, as far as it does not start the daemon."""

import argparse
from pathlib import Path

import pytest

from meshd import VERSION
from meshd.__main__ import DEFAULT_FILE, main, read_config
from meshd.config_file import find_file


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    output = capsys.readouterr()
    return caught.value.code, output.out, output.err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, "--version") == (0, f"meshd {VERSION}\n", "")
    status, text, _ = ended(capsys, "--help")
    assert status == 0
    assert "examples:" in text
    assert "exit status:" in text


def test_wrong_command_line_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, "--log", "loud")[0] == 2
    assert ended(capsys, "status")[0] == 2


def test_check_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "meshd.toml"
    file.write_text("[links]\nmax_links = 8\n")
    assert ended(capsys, "--check-config", "--config", str(file)) == (0, f"{file}: good\n", "")
    file.write_text("[links]\nmax_link = 8\n")
    status, _, text = ended(capsys, "--check-config", "--config", str(file))
    assert status == 2
    assert text == f"meshd: {file}: [links] has no key 'max_link'; did you mean max_links?\n"
    file.write_bytes(b"\xff\xfe")
    assert "UTF-8" in ended(capsys, "--check-config", "--config", str(file))[2]
    assert "cannot be read" in ended(capsys, "--check-config", "--config", str(tmp_path / "gone"))[2]


def test_file_is_looked_for_in_systemds_directory_first(tmp_path: Path) -> None:
    environment = {"CONFIGURATION_DIRECTORY": f"{tmp_path}:/nowhere"}
    assert find_file(None, environment, DEFAULT_FILE) != tmp_path / "meshd.toml"
    (tmp_path / "meshd.toml").touch()
    assert find_file(None, environment, DEFAULT_FILE) == tmp_path / "meshd.toml"
    assert find_file("/given", environment, DEFAULT_FILE) == Path("/given")


def test_command_line_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "meshd.toml"
    file.write_text('[node]\nstate_dir = "/file"\n[control]\nsocket = "/file.sock"\n[log]\nlevel = "error"\n')
    monkeypatch.chdir(tmp_path)
    given = argparse.Namespace(state_dir="state", socket=None, log=["debug", "json"])
    config = read_config(given, file)
    assert config.node.state_dir == str(tmp_path / "state")
    assert config.control.socket == "/file.sock"
    assert (config.log.level, config.log.format) == ("debug", "json")
    assert config.node.name
