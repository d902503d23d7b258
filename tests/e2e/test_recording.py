"""A daemon that records what its core is told, and the simulator that plays it again."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from demo.processes import Mesh, program, wait_for
from meshd.sim.replay import Replay

pytestmark = pytest.mark.e2e


def test_a_daemons_life_is_replayed_to_the_byte(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "recording"
    a, b = mesh.add("a"), mesh.add("b")
    where = ("--config", str(a.config_file), "--state-dir", str(a.state), "--socket", str(a.socket))
    a.launch(program("meshd"), *where, "--record", str(file))
    a.wait_until_ready()
    b.start()
    a.meshctl("found", "home", "--name", "a")
    mesh.join(b, a)
    wait_for(lambda: Mesh.fully_linked(a, b), "they are linked")
    a.meshctl("send", "b", "hello")
    a.stop()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    replay = Replay(file)
    assert list(replay.play()) == []
    assert replay.outcome.events == replay.outcome.exact > 30
    assert replay.outcome.missed == 0
    a.launch(program("meshd"), *where, "--record", str(file))  # the file is there already
    assert wait_for(lambda: a.exit_status() is not None, "it refuses to start")
    assert a.exit_status() == 2
    assert "name a file that is not there yet" in a.log()
