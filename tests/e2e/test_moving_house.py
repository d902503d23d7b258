"""A node that moves to another machine: real daemons, told by meshctl."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

PATIENCE = 30.0  # seconds; a busy machine takes long to start an interpreter
CONFIG = "[push]\nservices = []\n[links]\nallow_loopback = true\nport_mapping = false\n"


class House:
    """One machine with a daemon."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.state = directory / "state"
        self.socket = directory / "meshd.sock"
        self.log = directory / "log"
        self.config = directory / "meshd.toml"
        self.config.write_text(CONFIG)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> House:
        words = ["-m", "meshd", "--config", str(self.config), "--state-dir", str(self.state)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *words, "--socket", str(self.socket)], stderr=log)
        deadline = time.monotonic() + PATIENCE
        while self.meshctl("version").returncode and self.process.poll() is None:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return self

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.ended()

    def meshctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "MESHD_SOCKET": str(self.socket)}
        return subprocess.run(
            [sys.executable, "-m", "meshctl", *words], env=environment, capture_output=True, text=True, check=False
        )

    def told(self, *words: str) -> dict[str, Any]:
        ended = self.meshctl("--json", *words)
        assert ended.returncode == 0, ended.stderr
        result: dict[str, Any] = json.loads(ended.stdout)
        return result


def test_a_node_moves_to_another_machine(tmp_path: Path) -> None:
    old, new = House(tmp_path / "old"), House(tmp_path / "new")
    passphrase, file = tmp_path / "passphrase", tmp_path / "laptop.meshid"
    passphrase.write_text("correct horse battery\n")
    asked = ("--passphrase-file", str(passphrase))
    try:
        old.start()
        old.told("found", "home", "--name", "laptop", "--key-file", str(tmp_path / "home.meshkey"))
        rotated = old.told("keys", "rotate")
        before = old.told("status")
        backup = tmp_path / "backup.meshid"
        assert old.told("identity", "export", *asked, str(backup))["moved"] is False
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        assert old.meshctl("identity", "export", *asked, str(backup)).returncode == 1, "nothing is overwritten"
        assert old.told("identity", "export", "--move", *asked, str(file))["moved"] is True
        assert old.ended() == 0
        old.start()
        assert old.ended() == 1, "it does not start again as that node"
        assert "was moved to another machine" in old.log.read_text()

        new.start()
        other = new.told("status")["peer_id"]
        short = tmp_path / "wrong"
        short.write_text("incorrect horse\n")
        refused = new.meshctl("identity", "import", "--passphrase-file", str(short), str(file))
        assert (refused.returncode, "passphrase is wrong" in refused.stderr) == (1, True)
        assert new.told("identity", "import", *asked, str(file))["peer_id"] == before["peer_id"] != other
        new.stop()
        new.start()
        after = new.told("status")
        assert {key: after[key] for key in ("peer_id", "name", "mesh")} == {
            key: before[key] for key in ("peer_id", "name", "mesh")
        }
        shown = new.told("keys")
        assert shown["sealing_key"] == rotated["sealing_key"]
        assert shown["former_sealing_keys"] == rotated["former_sealing_keys"]
        assert not (new.state / "incoming").exists()
        member = new.meshctl("identity", "import", *asked, str(file))
        assert (member.returncode, "belongs to a mesh already" in member.stderr) == (1, True)
    finally:
        old.stop()
        new.stop()
