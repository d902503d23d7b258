"""What must outlive the daemon, in SQLite, written off the loop.

``Persist`` commands are written in their order, as many as have gathered in one transaction: the cost is in the sync to
disk, so under load one sync serves hundreds. Each is a savepoint, so one that fails takes none of the others along.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import trio

from meshd.core.commands import Change, Clear, Delete, Persist, Put
from meshd.core.events import Persisted, PersistFailed
from meshd.daemon import schema
from meshd.daemon.state_directory import StateDirectory
from meshd.errors import LocalMisuse, StoreError
from meshd.ids import Ticket

DATABASE_FILE = "meshd.db"

# Policy
MAX_BATCH = 256  # Persists in one transaction: a few ms of work, so the first of them is not kept waiting
MAX_STORE_SIZE = 8 << 30  # bytes; several times the largest inbox, and a fault stops here before the disk is full

Deliver = Callable[[Persisted | PersistFailed], None]


class Store:
    """The daemon's durable state. One at a time for each directory."""

    def __init__(
        self,
        directory: StateDirectory,
        connection: sqlite3.Connection,
        tables: Sequence[str],
        migrations: Sequence[schema.Migration],
    ) -> None:
        self._directory = directory
        self._connection = connection
        self._tables = frozenset(tables)
        self._migrations = tuple(migrations)
        self._waiting: deque[Persist] = deque()  # bounded by the causes of Persists, see there
        self._wakeup = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    @classmethod
    def open(
        cls,
        path: Path,
        tables: Sequence[str],
        *,
        max_size: int = MAX_STORE_SIZE,
        migrations: Sequence[schema.Migration] = schema.MIGRATIONS,
    ) -> Store:
        """Claim the state directory ``path`` and open its database, made or migrated if need be. ``max_size`` in bytes.

        Raises StoreError, with nothing changed: not ours, in use, damaged, made by a newer meshd, disk full.
        """
        directory = StateDirectory.claim(path)
        try:
            connection = _connect(path / DATABASE_FILE, max_size)
        except BaseException:
            directory.close()
            raise
        try:
            schema.check_intact(connection, path / DATABASE_FILE)
            schema.migrate(connection, path / DATABASE_FILE, tables, migrations)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # in WAL mode: a sync at every commit
            connection.execute("PRAGMA secure_delete = ON")  # keys that are erased must not stay in free pages
        except BaseException as error:
            connection.close()
            directory.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{path / DATABASE_FILE} cannot be used: {error}") from None
            raise
        return cls(directory, connection, tables, migrations)

    @property
    def path(self) -> Path:
        """The state directory."""
        return self._directory.path

    @property
    def version(self) -> int:
        """Of the database."""
        return len(self._migrations)

    @property
    def tables(self) -> frozenset[str]:
        """Their names."""
        return self._tables

    def size(self) -> int | None:
        """Bytes of the database file, without what waits in the log beside it; None if it is gone."""
        try:
            return (self.path / DATABASE_FILE).stat().st_size
        except OSError:
            return None

    def load(self) -> dict[str, dict[bytes, bytes]]:
        """Every row of every table. For the start: not to be called while ``run`` runs."""
        return {
            table: dict(self._connection.execute(f'SELECT key, value FROM "{table}"')) for table in sorted(self._tables)
        }

    def put(self, row: Put) -> None:
        """Write one row at once. For the start: not to be called while ``run`` runs. Raises StoreError."""
        (reason,) = self._write([Persist(Ticket(0), (row,))])
        if reason:
            raise self._unwritten(reason)

    def snapshot(self) -> list[tuple[str, bytes, bytes]]:
        """Every row that is written, as table, key, value, of one moment. May be called in a thread of its own.

        Raises StoreError.
        """
        try:
            with closing(sqlite3.connect(self.path / DATABASE_FILE, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                return [
                    (table, key, value)
                    for table in sorted(self._tables)
                    for key, value in reader.execute(f'SELECT key, value FROM "{table}" ORDER BY key')
                ]
        except sqlite3.Error as error:
            raise StoreError(f"{self.path / DATABASE_FILE} cannot be read: {error}") from None

    def replace_all(self, version: int, rows: Iterable[tuple[str, bytes, bytes]]) -> None:
        """Have these rows, which are of that version of the database, and no others.

        For the start: not to be called while ``run`` runs. Raises StoreError, with nothing changed.
        """
        given = list(rows)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            schema.make_tables(self._connection, {*self._tables, *(row[0] for row in given)})
            for table in self._tables:
                self._apply(Clear(table))
            for row in given:
                self._apply(Put(*row))
            for step in self._migrations[version:]:
                step(self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._unwritten(str(error)) from None
        self._forget_erased()

    def _unwritten(self, reason: str) -> StoreError:
        return StoreError(f"{self.path / DATABASE_FILE} cannot be written ({reason}): is the disk full?")

    def _forget_erased(self) -> None:
        """Nothing beside the database keeps what was erased in it: no copy of an upgrade, not the write-ahead log."""
        schema.remove_copies(self.path / DATABASE_FILE)
        with suppress(sqlite3.Error):  # somebody reads just now: the log begins anew soon, and then it is overwritten
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def submit(self, command: Persist) -> None:
        """Queue a ``Persist``. Raises LocalMisuse for a table that does not exist."""
        for change in command.changes:
            if change.table not in self._tables:
                raise LocalMisuse(f"there is no table {change.table!r}")
        self._waiting.append(command)
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._wakeup.set()

    async def run(self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is submitted, for ever. When cancelled, what is being written is still finished and answered."""
        task_status.started()
        while True:
            await self._wakeup.wait()
            self._wakeup = trio.Event()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                with trio.CancelScope(shield=True):  # a few ms; half a batch without an answer would help nobody
                    reasons = await trio.to_thread.run_sync(self._write, batch)
                for command, reason in zip(batch, reasons, strict=True):
                    deliver(PersistFailed(command.ticket, reason) if reason else Persisted(command.ticket))
            if not self._waiting:
                self._idle.set()

    async def drain(self) -> None:
        """Wait until everything submitted so far is written and answered. Needs ``run`` to run."""
        await self._idle.wait()

    def close(self) -> None:
        """Close the database and let go of the directory. Not while ``run`` runs."""
        self._connection.close()
        self._directory.close()

    def _write(self, batch: list[Persist]) -> list[str]:
        """For each command '' or why it was not written. Runs in a worker thread."""
        try:
            return self._write_together(batch)
        except sqlite3.Error as error:
            self._roll_back()
            if len(batch) == 1:
                return [str(error)]
        # Some errors (disk full, I/O) undo the whole transaction. Apart, those that still fit are saved.
        return [reason for command in batch for reason in self._write([command])]

    def _write_together(self, batch: list[Persist]) -> list[str]:
        """Write a batch in one transaction. Raises sqlite3.Error if the transaction as a whole failed."""
        execute = self._connection.execute
        reasons = []
        execute("BEGIN IMMEDIATE")
        for command in batch:
            execute("SAVEPOINT one")
            reason = ""
            try:
                for change in command.changes:
                    self._apply(change)
            except sqlite3.Error as error:
                if not self._connection.in_transaction:
                    raise
                execute("ROLLBACK TO one")
                reason = str(error)
            execute("RELEASE one")
            reasons.append(reason)
        execute("COMMIT")
        if any(_erases(change) for command in batch for change in command.changes):
            self._forget_erased()
        return reasons

    def _apply(self, change: Change) -> None:
        match change:
            case Put(table, key, value):
                self._connection.execute(f'INSERT OR REPLACE INTO "{table}" VALUES (?, ?)', (key, value))
            case Delete(table, key):
                self._connection.execute(f'DELETE FROM "{table}" WHERE key = ?', (key,))
            case Clear(table):
                self._connection.execute(f'DELETE FROM "{table}"')

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _erases(change: Change) -> bool:
    return change.table in schema.ERASING and not isinstance(change, Put)


def _connect(path: Path, max_size: int) -> sqlite3.Connection:
    try:
        # Made here with its mode; SQLite gives the same one to the files that it puts beside it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        # One thread at a time uses the connection: run() waits for each batch before the next.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened: {error}") from None
    try:
        page_size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        connection.execute(f"PRAGMA max_page_count = {max_size // page_size}")
    except sqlite3.DatabaseError:
        pass  # a damaged file: check_intact says so properly
    return connection
