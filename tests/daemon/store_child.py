"""Kills a writing process again and again and looks for what it had called durable. Run by test_store.py.

Forks, so that each round costs milliseconds rather than an interpreter's start.
"""

import os
import random
import signal
import sys
from pathlib import Path

import trio

from meshd.core.commands import Delete, Persist, Put
from meshd.core.events import Persisted, PersistFailed
from meshd.daemon.store import Store
from meshd.ids import Ticket

IN_FLIGHT = 8


def row(number: int) -> bytes:
    return number.to_bytes(4, "big")


async def write(store: Store, first: int, report: int) -> None:
    number = first

    def submit() -> None:
        nonlocal number
        # "pair" and "rows" change together: after a crash either both show a number or neither
        changes = (Put("rows", row(number), bytes(100)), Put("pair", b"last", row(number)), Delete("rows", b"absent"))
        store.submit(Persist(Ticket(number), changes))
        number += 1

    def deliver(event: Persisted | PersistFailed) -> None:
        assert isinstance(event, Persisted)
        os.write(report, f"{event.ticket}\n".encode())
        submit()

    for _ in range(IN_FLIGHT):
        submit()
    await store.run(deliver)


def main(directory: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    durable: list[int] = []
    for _ in range(rounds):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            store = Store.open(directory, ("rows", "pair"))
            trio.run(write, store, len(store.load()["rows"]), writing)
            os._exit(1)
        os.close(writing)
        with open(reading) as reports:
            durable += [int(reports.readline()) for _ in range(rng.randrange(1, 60))]
            os.kill(child, signal.SIGKILL)
            durable += [int(line) for line in reports]
        os.waitpid(child, 0)
        store = Store.open(directory, ("rows", "pair"))
        rows, last = store.load()["rows"], store.load()["pair"][b"last"]
        store.close()
        assert [number for number in durable if row(number) not in rows] == []
        assert sorted(rows) == [row(number) for number in range(len(rows))]
        assert last == row(len(rows) - 1)
    print(len(durable))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
