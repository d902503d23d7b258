"""Taking a node to another machine: written to a file here, taken over at the next start there.

What runs is never changed under its own feet: an import is kept aside (``INCOMING_FILE``) until the daemon starts
again, and after an export that moves the node away this daemon ends, and starts no more as that node by mistake.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from meshd.control.passing import Passed
from meshd.crypto import identity
from meshd.daemon import identity_file, keys
from meshd.daemon.store import Store
from meshd.errors import Code, ControlError, StoreError

# Specification (ours)
INCOMING_FILE = "incoming"  # an identity that takes over at the next start
MOVED_FILE = "moved-away"  # while it is there, nobody starts as this node

# Policy
_READ_SIZE = 1 << 20


class Moving:
    """Export and import.

    ``is_given``: the identity is a credential, which is not ours to change. ``stop`` has the daemon say goodbye and end
    its core, and raises trio.TooSlowError if the last changes cannot be written; ``end`` ends the process, soon.
    """

    def __init__(
        self,
        store: Store,
        seed: bytes,
        is_given: bool,
        in_mesh: Callable[[], bool],
        stop: Callable[[], Awaitable[None]],
        end: Callable[[], None],
    ) -> None:
        self._store = store
        self._seed = seed
        self._is_given = is_given
        self._in_mesh = in_mesh
        self._stop = stop
        self._end = end

    async def call(self, method: str, params: dict[str, Any], passed: Passed | None) -> dict[str, Any]:
        """``identity.export`` or ``identity.import``. Raises ControlError."""
        assert passed is not None  # the control server refuses without
        passphrase: str = params["passphrase"]
        if len(passphrase) < identity_file.MIN_PASSPHRASE_CHARS:
            need = identity_file.MIN_PASSPHRASE_CHARS
            raise ControlError(Code.INVALID_PARAMS, f"A passphrase has at least {need} characters.")
        fd = os.dup(passed.fd)  # the caller may go away in the middle
        try:
            if method == "identity.import":
                if self._in_mesh():
                    raise ControlError(Code.IN_MESH)
                return await trio.to_thread.run_sync(self._take_in, fd, passphrase)
            if not stat.S_ISREG(os.fstat(fd).st_mode):  # said before anything stops: a pipe could not be synced
                raise ControlError(Code.INVALID_PARAMS, "A node is written to a file, not to a pipe or socket.")
            return await self._export(fd, passphrase, move=bool(params.get("move")))
        finally:
            os.close(fd)

    async def _export(self, fd: int, passphrase: str, *, move: bool) -> dict[str, Any]:
        try:
            if move:
                await self._stop()  # from here on nothing changes any more that the file would lack
            with trio.CancelScope(shield=move):  # a whole file and no mark would make two nodes of one
                size = await trio.to_thread.run_sync(self._write_out, fd, passphrase)
                if move:
                    await trio.to_thread.run_sync(self._mark_moved)
        except (OSError, StoreError, trio.TooSlowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error) or "The disk is too slow"
            left = " The daemon has stopped; start it again." if move else ""
            raise ControlError(Code.STORE_FAILED, f"{reason}.{left}") from None
        finally:
            if move:
                self._end()
        return {"peer_id": identity.public_of(self._seed), "size": size, "moved": move}

    def _write_out(self, fd: int, passphrase: str) -> int:
        data = identity_file.seal(self._seed, self._store.snapshot(), passphrase)
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
        return len(data)

    def _mark_moved(self) -> None:
        when = time.strftime("%Y-%m-%d %H:%M")
        keys.write_file(self._store.path / MOVED_FILE, f"{when}\n", replace=True)

    def _take_in(self, fd: int, passphrase: str) -> dict[str, Any]:
        if self._is_given:
            raise ControlError(Code.REFUSED, "This daemon's identity is a systemd credential; take that away first.")
        data = bytearray()
        while piece := os.read(fd, _READ_SIZE):
            data += piece
            if len(data) > identity_file.MAX_FILE_SIZE:
                raise ControlError(Code.REFUSED, "The file is too large to be an identity.")
        try:
            plain = identity_file.open_sealed(bytes(data), passphrase)
            seed, rows = identity_file.read(plain)
        except ValueError as error:
            raise ControlError(Code.REFUSED, str(error)) from None
        try:
            keys.write_file(self._store.path / INCOMING_FILE, plain, replace=True)
        except OSError as error:
            raise ControlError(Code.STORE_FAILED, f"{error.strerror}.") from None
        return {"peer_id": identity.public_of(seed), "rows": len(rows)}


def take_over(store: Store, tables: frozenset[str]) -> None:
    """At a start: become whom an import has brought, if one has. Can be broken off anywhere and done again.

    Raises StoreError; also if this node has been moved away, and none was brought.
    """
    try:
        _take_over(store, tables)
    except OSError as error:
        raise StoreError(f"{error.filename}: the node that was brought cannot be taken in ({error.strerror})") from None


def _take_over(store: Store, tables: frozenset[str]) -> None:
    incoming, moved = store.path / INCOMING_FILE, store.path / MOVED_FILE
    try:
        plain = incoming.read_bytes()
    except FileNotFoundError:
        if moved.exists():
            raise StoreError(
                f"This node was moved to another machine ({moved.read_text().strip()}), and must not run in two "
                f"places. If it does not run there, and shall go on here after all: rm {moved}"
            ) from None
        return
    try:
        seed, rows = identity_file.read(plain)
    except ValueError as error:
        raise StoreError(f"{incoming}: {error} Remove it, and import again") from None
    store.replace_all([row for row in rows if row[0] in tables])
    keys.write_file(store.path / keys.KEY_FILE, keys.render(keys.IdentityKeys(seed)), replace=True)
    with suppress(FileNotFoundError):
        moved.unlink()
    incoming.unlink()
    keys.sync_directory(store.path)  # or a power cut might bring it back, and what happens from now on would be undone
