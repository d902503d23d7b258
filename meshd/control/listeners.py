"""The control socket in the file system: opened without robbing a daemon that lives, removed at the end."""

from __future__ import annotations

import errno
import os
import socket
import stat

import trio

from meshd.control.access import group_id_of
from meshd.errors import ConfigError

# Specification
MAX_SOCKET_PATH_SIZE = 107  # bytes: sun_path of unix(7) without the final zero

# Policy
SOCKET_MODE = 0o660  # the group of the socket may connect; what it may do there, ``access`` decides
BACKLOG = 64


async def open_listeners(path: str, group: str = "meshd") -> list[trio.SocketListener]:
    """Listen on a Unix socket of mode 0660 at ``path``, owned by ``group`` if it exists and we may give it away.

    A stale socket (nobody answers there) is replaced. Raises ConfigError if a daemon lives there, if something else
    stands there, or if the path cannot be used. Makes the last directory of the path if it is missing.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_SIZE:
        raise ConfigError(f"{path}: a socket's path has at most {MAX_SOCKET_PATH_SIZE} bytes; choose a shorter one.")
    await _make_way(path)
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), SOCKET_MODE)  # so that it is never open wider, not even for a moment
        await listener.bind(path)
        os.chmod(path, SOCKET_MODE)  # the umask may have taken something away
        _give_to(path, group)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{path}: cannot listen there: {error.strerror}.") from error
    return [trio.SocketListener(listener)]


async def close_listeners(listeners: list[trio.SocketListener], path: str) -> None:
    """Stop listening and remove the socket, unless another daemon has put its own there meanwhile."""
    ours = {listener.socket.getsockname() for listener in listeners if listener.socket.fileno() >= 0}
    for listener in listeners:
        await trio.aclose_forcefully(listener)
    if path in ours and not await _is_alive(path):
        try:
            os.unlink(path)
        except OSError:
            return  # a stale socket does no harm: the next start replaces it


async def _make_way(path: str) -> None:
    if not _socket_stands_at(path):
        return
    if await _is_alive(path):
        raise ConfigError(f"{path}: another daemon answers there; stop it, or give this one another control socket.")
    try:
        os.unlink(path)
    except OSError as error:
        raise ConfigError(f"{path}: the stale socket there cannot be removed: {error.strerror}.") from error


def _socket_stands_at(path: str) -> bool:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o755, exist_ok=True)
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{path}: its directory cannot be used: {error.strerror}.") from error
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: something that is no socket stands there; move it away or choose another path.")
    return True


async def _is_alive(path: str) -> bool:
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            await probe.connect(path)
        except OSError as error:
            # A full backlog (EAGAIN) or a socket we may not open is somebody's; only refusal means nobody is there.
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True


def _give_to(path: str, group: str) -> None:
    group_id = group_id_of(group)
    if group_id is None:
        return
    try:
        os.chown(path, -1, group_id)
    except PermissionError:
        return  # a daemon of one's own, outside the service: its user alone is served
