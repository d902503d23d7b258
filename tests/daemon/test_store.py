"""The durable state: what is promised, what is refused, and what survives a kill."""

import resource
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from meshd.core.commands import Clear, Delete, Persist, Put
from meshd.core.events import Persisted, PersistFailed
from meshd.daemon import schema
from meshd.daemon.store import Store
from meshd.errors import LocalMisuse, StoreError
from meshd.ids import Ticket

TABLES = ("members", "inbox")


def put(ticket: int, key: bytes, value: bytes = b"v", table: str = "members") -> Persist:
    return Persist(Ticket(ticket), (Put(table, key, value),))


async def written(store: Store, *commands: Persist) -> list[Persisted | PersistFailed]:
    """What the store answers when it gets all of ``commands`` at once."""
    events: list[Persisted | PersistFailed] = []
    for command in commands:
        store.submit(command)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run, events.append)
        with trio.fail_after(10):
            await store.drain()
        nursery.cancel_scope.cancel()
    return events


def refusal(path: Path, **arguments: object) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(path, TABLES, **arguments)  # type: ignore[arg-type]
    return str(caught.value)


async def test_changes_come_back_in_order_and_survive_reopening(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state", TABLES)
    events = await written(
        store,
        put(1, b"a", b"1"),
        Persist(Ticket(2), (Put("members", b"b", b"2"), Put("inbox", b"m", b"hello"), Delete("members", b"a"))),
        Persist(Ticket(3), (Put("members", b"b", b"3"), Clear("inbox"))),
        Persist(Ticket(4), ()),
    )
    assert events == [Persisted(Ticket(number)) for number in (1, 2, 3, 4)]
    store.close()
    again = Store.open(tmp_path / "state", TABLES)
    assert again.load() == {"members": {b"b": b"3"}, "inbox": {}}
    again.close()


async def test_files_are_for_the_daemon_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a" / "state", TABLES)
    await written(store, put(1, b"a"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.iterdir()}
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert "meshd.db-wal" in modes
    store.close()


async def test_writing_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    """``submit`` returns at once, and other tasks run before the answer comes."""
    store = Store.open(tmp_path / "state", TABLES)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run, lambda event: order.append("persisted"))
        store.submit(put(1, b"a"))
        order.append("submitted")
        await trio.lowlevel.checkpoint()
        order.append("another task")
        await store.drain()
        nursery.cancel_scope.cancel()
    assert order == ["submitted", "another task", "persisted"]
    store.close()


async def test_cancelling_finishes_what_is_being_written(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state", TABLES)
    events: list[Persisted | PersistFailed] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run, events.append)
        store.submit(put(1, b"a"))
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    store.close()
    again = Store.open(tmp_path / "state", TABLES)
    assert len(again.load()["members"]) == len(events)
    again.close()


async def test_full_store_fails_only_what_does_not_fit(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state", TABLES, max_size=64 * 1024)
    events = await written(
        store,
        put(1, b"small", b"1"),
        Persist(Ticket(2), (Put("members", b"first half", b"2"), Put("inbox", b"large", bytes(200_000)))),
        put(3, b"after", b"3"),
    )
    assert events == [Persisted(Ticket(1)), PersistFailed(Ticket(2), "database or disk is full"), Persisted(Ticket(3))]
    assert store.load() == {"members": {b"small": b"1", b"after": b"3"}, "inbox": {}}
    assert await written(store, put(4, b"later")) == [Persisted(Ticket(4))]
    store.close()


async def test_write_errors_of_the_system_are_answered(tmp_path: Path) -> None:
    """A limit on file size gives a real EFBIG, as a full disk gives ENOSPC."""
    store = Store.open(tmp_path / "state", TABLES)
    await written(store, put(1, b"before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        events = await written(store, put(2, b"large", bytes(500_000)), put(3, b"small"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [type(event) for event in events] == [PersistFailed, Persisted]
    assert await written(store, put(4, b"large", bytes(500_000))) == [Persisted(Ticket(4))]
    assert set(store.load()["members"]) == {b"before", b"small", b"large"}
    store.close()


def test_unknown_table_is_a_bug_of_ours(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state", TABLES)
    with pytest.raises(LocalMisuse, match="nowhere"):
        store.submit(put(1, b"a", table="nowhere"))
    store.close()


def test_second_daemon_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    holder = (
        "import sys, os; from pathlib import Path; from meshd.daemon.store import Store; "
        f"store = Store.open(Path(sys.argv[1]), {TABLES!r}); print(os.getpid(), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "state")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        pid = other.stdout.readline().strip()
        assert f"in use by another meshd (process {pid})" in refusal(tmp_path / "state")
        other.kill()
    Store.open(tmp_path / "state", TABLES).close()  # a killed holder leaves no stale lock


def test_directory_must_be_private(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    assert f"chmod 700 {state}" in refusal(state)
    assert list(state.iterdir()) == []
    (tmp_path / "file").touch()
    assert "is not a directory" in refusal(tmp_path / "file")
    assert "--state-dir" in refusal(tmp_path / "file" / "below")


@pytest.mark.parametrize("damage", ["text", "header", "pages"])
def test_damaged_database_is_named_and_left_alone(tmp_path: Path, damage: str) -> None:
    store = Store.open(tmp_path / "state", TABLES)
    trio.run(written, store, *(put(number, b"%d" % number, bytes(500)) for number in range(200)))
    store.close()
    database = tmp_path / "state" / "meshd.db"
    raw = bytearray(database.read_bytes())
    match damage:
        case "text":
            raw = bytearray(b"no database " * 1000)
        case "header":
            raw[:16] = bytes(16)
        case _:
            raw[8192:] = b"\xa5" * (len(raw) - 8192)
    database.write_bytes(raw)
    message = refusal(tmp_path / "state")
    assert str(database) in message
    assert "is damaged" in message
    assert "mv " in message
    assert database.read_bytes() == raw
    assert "is damaged" in refusal(tmp_path / "state"), "the lock was not given back"


def test_foreign_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    with sqlite3.connect(tmp_path / "state" / "meshd.db") as foreign:
        foreign.execute("CREATE TABLE songs (title)")
    foreign.close()
    assert "some other program's database" in refusal(tmp_path / "state")


def _shout(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE members SET value = upper(CAST(value AS TEXT)) || '!'")


def _fail(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM members")
    connection.execute("INSERT INTO nowhere VALUES (1)")


async def test_older_database_is_migrated_and_a_copy_kept(tmp_path: Path) -> None:
    old = Store.open(tmp_path / "state", ("members",))
    await written(old, put(1, b"a", b"text"))
    old.close()
    new = Store.open(tmp_path / "state", TABLES, migrations=(*schema.MIGRATIONS, _shout))
    assert {table: list(rows) for table, rows in new.load().items()} == {"members": [b"a"], "inbox": []}
    assert new.load()["members"][b"a"] in ("TEXT!", b"TEXT!")
    new.close()
    message = refusal(tmp_path / "state")
    assert "made by a newer meshd" in message
    kept = tmp_path / "state" / f"meshd.db.version-{len(schema.MIGRATIONS)}"
    assert str(kept) in message
    kept.rename(tmp_path / "state" / "meshd.db")
    back = Store.open(tmp_path / "state", TABLES)
    assert back.load()["members"] == {b"a": b"text"}
    back.close()


async def test_failing_migration_changes_nothing(tmp_path: Path) -> None:
    old = Store.open(tmp_path / "state", TABLES)
    await written(old, put(1, b"a", b"text"))
    old.close()
    assert "nothing was changed" in refusal(tmp_path / "state", migrations=(*schema.MIGRATIONS, _fail))
    again = Store.open(tmp_path / "state", TABLES)
    assert again.load()["members"] == {b"a": b"text"}
    again.close()


def test_what_was_called_durable_survives_kill(tmp_path: Path) -> None:
    child = Path(__file__).with_name("store_child.py")
    done = subprocess.run(
        [sys.executable, str(child), str(tmp_path / "state"), "25", "1"], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 25


def holds(directory: Path, secret: bytes) -> list[str]:
    return [path.name for path in sorted(directory.iterdir()) if secret in path.read_bytes()]


async def test_an_erased_key_is_in_no_file(tmp_path: Path) -> None:
    """Neither in the database nor in its log, nor in the copy of an upgrade."""
    path, secret, tables = tmp_path / "state", bytes(range(32)), (*TABLES, "sealing_keys")
    store = Store.open(path, tables)
    await written(store, put(1, b"old", secret, "sealing_keys"))
    store.close()
    store = Store.open(path, tables, migrations=(*schema.MIGRATIONS, lambda _: None))
    copy = f"meshd.db.version-{len(schema.MIGRATIONS)}"
    assert holds(path, secret) == ["meshd.db", copy]
    await written(
        store, put(1, b"new", b"x", "sealing_keys"), put(2, b"a"), Persist(Ticket(3), (Delete("inbox", b"m"),))
    )
    assert (path / copy).exists()
    await written(store, Persist(Ticket(4), (Delete("sealing_keys", b"old"),)))
    assert holds(path, secret) == []
    assert not (path / copy).exists()
    assert store.load()["sealing_keys"] == {b"new": b"x"}
    store.close()
