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
from meshd.durable_file import sync_directory, write_file
from meshd.errors import Code, ControlError, StoreError

# Specification (ours)
INCOMING_FILE = "incoming"  # an identity that takes over at the next start
MOVED_FILE = "moved-away"  # while it is there, nobody starts as this node

# Policy
_READ_SIZE = 1 << 20
WAYS_IN = frozenset({"mesh.found", "mesh.join", "links.offer", "links.accept"})  # by which a node becomes a member

_TAKEN = "Another node was imported and takes over at the next start: systemctl restart meshd."


class Moving:
    """Export and import.

    ``is_given``: the identity is a credential, which is not ours to change. ``state``: what ``node.status`` says.
    ``stop`` has the daemon say goodbye and end its core, and raises trio.TooSlowError if the last changes cannot be
    written; ``end`` ends the process, soon.
    """

    def __init__(
        self,
        store: Store,
        seed: bytes,
        is_given: bool,
        state: Callable[[], str],
        stop: Callable[[], Awaitable[None]],
        end: Callable[[], None],
    ) -> None:
        self._store = store
        self._seed = seed
        self._is_given = is_given
        self._state = state
        self._stop = stop
        self._end = end
        self._importing = False

    async def call(self, method: str, params: dict[str, Any], passed: Passed | None) -> dict[str, Any]:
        """``identity.export`` or ``identity.import``. Raises ControlError."""
        assert passed is not None  # the control server refuses without
        passphrase: str = params["passphrase"]
        if len(passphrase) < identity_file.MIN_PASSPHRASE_CHARS:
            need = identity_file.MIN_PASSPHRASE_CHARS
            raise ControlError(Code.INVALID_PARAMS, f"A passphrase has at least {need} characters.")
        fd = os.dup(passed.fd)  # the caller may go away in the middle
        try:
            # A pipe could not be synced, and could keep a thread of ours for as long as it likes.
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ControlError(Code.INVALID_PARAMS, "A node is kept in a file, not in a pipe or socket.")
            if method == "identity.import":
                return await self._import(fd, passphrase)
            return await self._export(fd, passphrase, move=bool(params.get("move")))
        finally:
            os.close(fd)

    @property
    def warnings(self) -> list[str]:
        """For ``node.status``."""
        return [_TAKEN] if self._is_taken() else []

    def _is_taken(self) -> bool:
        """Whether another node is to take this one's place."""
        return self._importing or (self._store.path / INCOMING_FILE).exists()

    def check(self, method: str) -> None:
        """Raises ControlError for what would make this node a member, while another is to take its place."""
        if method in WAYS_IN and self._is_taken():
            incoming = self._store.path / INCOMING_FILE
            raise ControlError(Code.REFUSED, f"{_TAKEN} For this node to stay what it is: rm {incoming}")

    async def _import(self, fd: int, passphrase: str) -> dict[str, Any]:
        await self._store.drain()  # founding may be on its way to the disk
        state = self._state()
        if state in ("member", "joining"):
            raise ControlError(*((Code.IN_MESH,) if state == "member" else (Code.BUSY, "A join is under way.")))
        self._importing = True  # from here on nobody joins
        try:
            return await trio.to_thread.run_sync(self._take_in, fd, passphrase)
        finally:
            self._importing = False

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
        data = identity_file.seal(self._seed, self._store.version, self._store.snapshot(), passphrase)
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
        return len(data)

    def _mark_moved(self) -> None:
        when = time.strftime("%Y-%m-%d %H:%M")
        write_file(self._store.path / MOVED_FILE, f"{when}\n", replace=True)

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
            found = identity_file.read(plain, self._store.version, self._store.tables)
        except ValueError as error:
            raise ControlError(Code.REFUSED, str(error)) from None
        try:
            write_file(self._store.path / INCOMING_FILE, plain, replace=True)
        except OSError as error:
            raise ControlError(Code.STORE_FAILED, f"{error.strerror}.") from None
        return {"peer_id": identity.public_of(found.seed), "rows": len(found.rows)}


def take_over(store: Store) -> None:
    """At a start: become whom an import has brought, if one has. Can be broken off anywhere and done again.

    Raises StoreError; also if this node has been moved away, and none was brought.
    """
    try:
        _take_over(store)
    except OSError as error:
        raise StoreError(f"{error.filename}: the node that was brought cannot be taken in ({error.strerror})") from None


def _take_over(store: Store) -> None:
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
        found = identity_file.read(plain, store.version, store.tables)
    except ValueError as error:
        raise StoreError(f"{incoming}: {error} Or remove it, and import again") from None
    store.replace_all(found.version, found.rows)
    write_file(store.path / keys.KEY_FILE, keys.render(keys.IdentityKeys(found.seed)), replace=True)
    with suppress(FileNotFoundError):
        moved.unlink()
    incoming.unlink()
    sync_directory(store.path)  # or a power cut might bring it back, and what happens from now on would be undone
