"""The database's shape: its version, how an older one becomes a newer one, and what is refused.

Rows are opaque to the database: each table maps keys to msgpack values that ``meshd.core.state`` reads and writes. A
new table needs nothing here (missing ones are made at each start); a change in what a row means needs a migration, and
so do a table that an older daemon must not overlook, and one that is given up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from meshd.errors import StoreError

# Specification
APPLICATION_ID = 0x6D657368  # "mesh"; https://www.sqlite.org/pragma.html#pragma_application_id

_COPY = ".version-"

Migration = Callable[[sqlite3.Connection], None]


def _first(connection: sqlite3.Connection) -> None:
    """From an empty file: there is nothing to convert."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _revocations(connection: sqlite3.Connection) -> None:
    """Nothing is converted; but a daemon that knows no revocations would let the revoked in again."""


# Whose rows are secrets that must be gone once they are deleted, or recordings could be opened with them for ever.
ERASING = frozenset({"sealing_keys"})

MIGRATIONS: tuple[Migration, ...] = (_first, _revocations)  # the n-th makes version n + 1 of version n; append only


def check_intact(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError for a damaged or foreign file, which is left as it is."""
    keep = (
        f"It has been left as it is. To start anew: mv {path} {path}.damaged, start meshd, and join again; "
        "the identity is in another file and is kept"
    )
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} is damaged ({error}). {keep}") from None
    if found != ["ok"]:
        raise StoreError(f"{path} is damaged ({'; '.join(found)}). {keep}")
    if application != APPLICATION_ID and (application or tables):
        raise StoreError(f"{path} is some other program's database: give meshd a directory of its own with --state-dir")


def migrate(
    connection: sqlite3.Connection, path: Path, tables: Sequence[str], migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Bring the database to the newest version, all steps in one transaction, and make the tables that are missing.

    Before rows are converted, the database is copied to ``meshd.db.version-N``, so that one can go back until the
    first secret of it is erased: see ``remove_copies``.
    Raises StoreError for a database of a newer version, or when a step fails (nothing is changed then).
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        copy = f"{path}{_COPY}{len(migrations)}"
        raise StoreError(
            f"{path} was made by a newer meshd (version {version} of the database; this one knows "
            f"{len(migrations)}): install that meshd again, or go back to the state before the upgrade with "
            f"{copy}, if it is there"
        )
    try:
        if 0 < version < len(migrations):
            copy_path = path.with_name(f"{path.name}{_COPY}{version}")
            copy_path.unlink(missing_ok=True)
            connection.execute("VACUUM INTO ?", (str(copy_path),))
            copy_path.chmod(0o600)
        connection.execute("BEGIN IMMEDIATE")
        for step in migrations[version:]:
            step(connection)
        make_tables(connection, tables)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StoreError(
            f"{path} cannot be brought from version {version} to {len(migrations)} ({error}); nothing was changed. "
            "Is the disk full?"
        ) from None


def make_tables(connection: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Make those that are missing. Raises sqlite3.Error."""
    for table in tables:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{table}" (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID'
        )


def remove_copies(path: Path) -> None:
    """Remove what ``migrate`` has copied of the database ``path``, for the keys that were erased here since."""
    for copy in path.parent.glob(f"{path.name}{_COPY}*"):
        with suppress(OSError):  # a disk that cannot remove it could not erase the key itself
            copy.unlink()
