"""The state directory: whose it must be, and the lock that keeps a second daemon out."""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from meshd.errors import StoreError

LOCK_FILE = "meshd.lock"


class StateDirectory:
    """A directory that this process alone uses until ``close`` or its death."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, path: Path) -> StateDirectory:
        """Make the directory if it is missing, check it, and lock it.

        Raises StoreError if it is not ours, open to others, or in use.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            _check(path)
            return cls(path, _lock(path))
        except OSError as error:
            raise StoreError(
                f"{path}: {error.strerror}: make it a directory of the daemon's user (chmod 700), or give --state-dir"
            ) from None

    def close(self) -> None:
        """Let the next daemon in. The lock file stays: removing it would let two daemons lock two files."""
        os.close(self._lock)


def _check(path: Path) -> None:
    found = path.stat()  # follows links: systemd's DynamicUser puts one there
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{path} is not a directory: remove it, or give another with --state-dir")
    if found.st_uid != os.geteuid():
        owner, we = user_name(found.st_uid), user_name(os.geteuid())
        raise StoreError(
            f"{path} belongs to {owner}, and this daemon runs as {we}: run it as {owner}, or give another directory "
            "with --state-dir"
        )
    if found.st_mode & 0o077:
        raise StoreError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}), and keys are kept there: "
            f"chmod 700 {path}"
        )


def _lock(path: Path) -> int:
    """Take the lock; returns the descriptor that holds it. The kernel lets go of it when we die, however we die."""
    lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StoreError(
            f"{path} is in use by another meshd (process {holder}): stop that one, or give this one a directory of "
            "its own with --state-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def user_name(uid: int) -> str:
    """The name of a user for messages, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
