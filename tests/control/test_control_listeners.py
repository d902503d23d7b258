"""Opening the control socket next to whatever stands there already."""

import os
import socket
import stat

import pytest
import trio

from meshd.control.listeners import close_listeners, open_listeners
from meshd.errors import ConfigError


def leave_stale_socket(path):
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


async def can_connect(path):
    try:
        async with await trio.open_unix_socket(path):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("umask", [0, 0o027, 0o077])
async def test_only_owner_and_group_may_connect(tmp_path, umask):
    before = os.umask(umask)
    try:
        listeners = await open_listeners(str(tmp_path / "s"), group=str(os.getgid()))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o660
    assert os.stat(tmp_path / "s").st_gid == os.getgid()
    await close_listeners(listeners, str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


async def test_a_stale_socket_is_replaced(tmp_path):
    leave_stale_socket(tmp_path / "s")
    listeners = await open_listeners(str(tmp_path / "s"), group="no-such-group")
    assert await can_connect(str(tmp_path / "s"))
    await close_listeners(listeners, str(tmp_path / "s"))


async def test_a_live_daemon_is_not_robbed(tmp_path):
    path = str(tmp_path / "s")
    listeners = await open_listeners(path)
    with pytest.raises(ConfigError, match="another daemon answers there"):
        await open_listeners(path)
    assert await can_connect(path)
    await close_listeners(listeners, path)


async def test_a_daemon_whose_backlog_is_full_is_alive(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(path)
            with trio.move_on_after(2), pytest.raises(ConfigError, match="another daemon"):
                await open_listeners(path)


async def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        await open_listeners(str(tmp_path / "s"))
    assert (tmp_path / "s").read_text() == "precious"


async def test_a_path_that_cannot_be_is_named(tmp_path):
    with pytest.raises(ConfigError, match="107"):
        await open_listeners("/tmp/" + "x" * 110)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="directory"):
        await open_listeners(str(tmp_path / "file" / "s"))


async def test_the_directory_is_made(tmp_path):
    path = str(tmp_path / "meshd" / "meshd.sock")
    listeners = await open_listeners(path)
    assert await can_connect(path)
    await close_listeners(listeners, path)


async def test_a_successor_keeps_its_socket_when_the_old_one_closes(tmp_path):
    path = str(tmp_path / "s")
    old = await open_listeners(path)
    os.unlink(path)
    new = await open_listeners(path)
    await close_listeners(old, path)
    assert await can_connect(path)
    await close_listeners(new, path)
