"""What survives: user agents, channels and messages in SQLite, written in groups by one thread.

Writes queue up and go down together, in order, in one transaction: at once when nothing was written just now, else
when ``commit_interval`` has passed since. ``commit`` waits until everything queued before it is written; a 201 is sent
after it only. What nobody waits for (acknowledgements) goes with the next of these, or a little later by itself: a
message whose acknowledgement is lost with the process comes once more. With a write-ahead log and
``synchronous=NORMAL`` what was committed survives any death of the process; a power cut can cost the last moments,
never the database. ``fsync`` makes it survive that, too, and costs every sender the latency of the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from meshd.errors import StoreError
from meshd.push.service.config import Limits
from meshd.push.service.registry import SECRET_SIZE, Channel, Stored

log = structlog.get_logger("meshd.push.service")

# Policy
SCHEMA_VERSION = 1
DATABASE_NAME = "push.sqlite3"
_PAGE_SIZE = 4096
_JOURNAL_SIZE = 16 << 20  # the log is cut back to this when it has been written into the database
_LAZY_INTERVAL = 0.25  # seconds that a write may wait for others when nobody waits for it

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE user_agents (uaid BLOB PRIMARY KEY, last_seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE channels (
    uaid BLOB NOT NULL, channel_id BLOB NOT NULL, key_hash BLOB NOT NULL, PRIMARY KEY (uaid, channel_id)
) WITHOUT ROWID;
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, version TEXT NOT NULL UNIQUE, uaid BLOB NOT NULL,
    channel_id BLOB NOT NULL, topic TEXT, expires REAL NOT NULL, body BLOB NOT NULL
);
CREATE INDEX messages_of ON messages (uaid, channel_id);
"""

_Value = bytes | str | float | int | None
_Write = tuple[str, tuple[_Value, ...]]


class StoreFailed(StoreError):
    """What was to be written was not: the disk is full, the database too large. Nothing is half written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything but the bodies, as ``Registry.restore`` takes it."""

    secret: bytes = field(repr=False)
    user_agents: list[tuple[bytes, float]] = field(repr=False)
    channels: list[tuple[bytes, bytes, bytes]] = field(repr=False)
    messages: list[Stored] = field(repr=False)


@dataclass(slots=True)
class _Waiter:
    done: trio.Event = field(default_factory=trio.Event)
    error: str | None = None


class Store:
    """The database in ``state_dir``. ``open`` and ``close`` block; ``run`` must be running for anything else."""

    def __init__(self, database: sqlite3.Connection, lock: int, limits: Limits) -> None:
        self._database = database
        self._lock = lock
        self._limits = limits
        self._thread = trio.CapacityLimiter(1)  # SQLite wants one at a time, and order is what makes commit mean it
        self._writes: list[_Write] = []
        self._waiters: list[_Waiter] = []
        self._wake = trio.Event()  # something is queued
        self._hurry = trio.Event()  # somebody waits for it
        self._failure = ""
        self.transactions = 0
        """How often something was written since the start."""

    @classmethod
    def open(cls, state_dir: Path, limits: Limits, *, fsync: bool = False) -> Store:
        """Open or make the database; the directory gets mode 0700. Raises StoreError (in use, newer, unreadable)."""
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            state_dir.chmod(0o700)
            lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{state_dir}: {error.strerror}; it must be a directory that this user may write"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StoreError(f"{state_dir} is in use by another push service; give each its own directory") from None
        try:
            database = _connect(state_dir / DATABASE_NAME, limits, fsync=fsync)
        except (sqlite3.Error, OSError) as error:
            os.close(lock)
            raise StoreError(f"{state_dir / DATABASE_NAME}: {error}") from None
        except StoreError:
            os.close(lock)
            raise
        return cls(database, lock, limits)

    def load(self) -> Snapshot:
        """Read everything but the bodies, and drop rows that belong to nobody. Blocks; raises StoreError."""
        try:
            with self._database as database:
                database.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(SECRET_SIZE),))
                database.execute("DELETE FROM channels WHERE uaid NOT IN (SELECT uaid FROM user_agents)")
                database.execute("DELETE FROM messages WHERE uaid NOT IN (SELECT uaid FROM user_agents)")
            (secret,) = database.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
            messages = database.execute(
                "SELECT version, uaid, channel_id, topic, expires FROM messages ORDER BY number"
            )
            return Snapshot(
                secret,
                database.execute("SELECT uaid, last_seen FROM user_agents").fetchall(),
                database.execute("SELECT uaid, channel_id, key_hash FROM channels").fetchall(),
                [Stored(*row) for row in messages],
            )
        except sqlite3.Error as error:
            raise StoreError(f"the database of the push service cannot be read: {error}") from None

    @property
    def is_writable(self) -> bool:
        """Whether what was written last could be."""
        return not self._failure

    @property
    def pending(self) -> int:
        """How many changes wait for the disk."""
        return len(self._writes)

    @property
    def congested(self) -> bool:
        """Whether so much waits for the disk that nothing should be added."""
        return len(self._writes) >= self._limits.max_pending_writes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is queued, for ever."""
        task_status.started()
        written = -math.inf
        while True:
            await self._wake.wait()
            with trio.move_on_after(_LAZY_INTERVAL):
                await self._hurry.wait()
            await trio.sleep_until(written + self._limits.commit_interval)
            written = trio.current_time()
            self._wake, self._hurry = trio.Event(), trio.Event()
            writes, waiters = self._take()
            self.transactions += bool(writes)
            error = await trio.to_thread.run_sync(self._apply, writes, limiter=self._thread)
            for waiter in waiters:
                waiter.error = error
                waiter.done.set()

    async def commit(self) -> None:
        """Return when everything queued so far is written. Raises StoreFailed when it could not be."""
        waiter = _Waiter()
        self._waiters.append(waiter)
        self._wake.set()
        self._hurry.set()
        await waiter.done.wait()
        if waiter.error is not None:
            raise StoreFailed(waiter.error)

    async def bodies(self, versions: Sequence[str]) -> dict[str, bytes]:
        """The bodies of those messages that are still there, everything queued before included."""
        with contextlib.suppress(StoreFailed):
            await self.commit()
        return await trio.to_thread.run_sync(self._read_bodies, versions, limiter=self._thread)

    def close(self) -> None:
        """Write what is still queued and close. Blocks."""
        writes, waiters = self._take()
        error = self._apply(writes)
        for waiter in waiters:
            waiter.error = error
            waiter.done.set()
        self._database.close()
        os.close(self._lock)

    def probe(self) -> None:
        """Queue a write that changes nothing, to find out whether writing works again."""
        self._queue("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", bytes(_PAGE_SIZE))

    def add_channel(self, channel: Channel, now: float) -> None:
        """Queue: a new channel, and its user agent if that is new too."""
        self._queue("INSERT OR IGNORE INTO user_agents VALUES (?, ?)", channel.uaid, now)
        self._queue(
            "INSERT OR REPLACE INTO channels VALUES (?, ?, ?)", channel.uaid, channel.channel_id, channel.key_hash
        )

    def remove_channel(self, uaid: bytes, channel_id: bytes) -> None:
        """Queue: the end of a channel and of what waits in it."""
        self._queue("DELETE FROM channels WHERE uaid = ? AND channel_id = ?", uaid, channel_id)
        self._queue("DELETE FROM messages WHERE uaid = ? AND channel_id = ?", uaid, channel_id)

    def drop_user_agent(self, uaid: bytes) -> None:
        """Queue: the end of a user agent and of all it has."""
        for table in ("messages", "channels", "user_agents"):
            self._queue(f"DELETE FROM {table} WHERE uaid = ?", uaid)

    def seen(self, uaid: bytes, now: float) -> None:
        """Queue: when the user agent was here last."""
        self._queue("UPDATE user_agents SET last_seen = max(last_seen, ?) WHERE uaid = ?", now, uaid)

    def add_message(self, message: Stored, body: bytes) -> None:
        """Queue: a message."""
        self._queue(
            "INSERT INTO messages (version, uaid, channel_id, topic, expires, body) VALUES (?, ?, ?, ?, ?, ?)",
            message.version, message.uaid, message.channel_id, message.topic, message.expires, body,
        )  # fmt: skip

    def remove_message(self, version: str) -> None:
        """Queue: the end of a message."""
        self._queue("DELETE FROM messages WHERE version = ?", version)

    def _queue(self, statement: str, *values: _Value) -> None:
        self._writes.append((statement, values))
        self._wake.set()

    def _take(self) -> tuple[list[_Write], list[_Waiter]]:
        writes, self._writes = self._writes, []
        waiters, self._waiters = self._waiters, []
        return writes, waiters

    def _apply(self, writes: list[_Write]) -> str | None:
        """One transaction; gives what went wrong. In the thread."""
        if not writes:
            return None
        try:
            with self._database as database:
                database.execute("BEGIN")
                for statement, values in writes:
                    database.execute(statement, values)
        except sqlite3.Error as error:
            return self._note(str(error))
        self._note("")
        return None

    def _read_bodies(self, versions: Sequence[str]) -> dict[str, bytes]:
        marks = ",".join("?" * len(versions))
        try:
            rows = self._database.execute(
                f"SELECT version, body FROM messages WHERE version IN ({marks})", versions
            ).fetchall()
        except sqlite3.Error as error:
            self._note(str(error))
            return {}
        return dict(rows)

    def _note(self, failure: str) -> str:
        """Tell the log when the database begins to fail, fails otherwise, or works again; not each time."""
        if failure != self._failure:
            self._failure = failure
            if failure:
                log.error("store_failing", reason=failure)
            else:
                log.info("store_works_again")
        return failure


def _connect(path: Path, limits: Limits, *, fsync: bool) -> sqlite3.Connection:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    # isolation_level None: transactions begin where this file says so. One thread at a time is the limiter's business.
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); "
                "upgrade, or give another state directory"
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        database.execute(f"PRAGMA journal_size_limit = {_JOURNAL_SIZE}")
        database.execute(f"PRAGMA max_page_count = {max(limits.max_database_size // _PAGE_SIZE, 64)}")
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except BaseException:
        database.close()
        raise
    return database
