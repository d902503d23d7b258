"""How a mesh comes to be by itself: everybody is introduced."""

from __future__ import annotations

from functools import partial
from random import Random

from meshd.sim.scale.agenda import Agenda
from meshd.sim.scale.mesh import Mesh
from meshd.sim.stage import MESH_KEY

# Policy
JOIN_TIMEOUT = 300.0  # seconds a person waits for a join, and a little
LOOK_INTERVAL = 0.25  # seconds between two looks at whether a join is over
TRIES = 3  # times that a person pastes a token


class Growth:
    """``tried`` is how many have wanted to be members, the founder included."""

    def __init__(self, mesh: Mesh, agenda: Agenda, dice: Random) -> None:
        self._mesh = mesh
        self._agenda = agenda
        self._dice = dice
        self.tried = 0
        self.began = 0.0
        self.ended = 0.0

    def found(self, index: int = 0) -> None:
        """That machine's owner founds the mesh."""
        network = self._mesh.network
        network.start(index)
        network.ask(index, "mesh.found", mesh_name="home", name=f"n{index}", mesh_key=MESH_KEY)
        self._mesh.enter(index)
        self.tried += 1
        self.began = self.ended = network.now

    def one_by_one(self, indices: list[int], interval: float) -> None:
        """Each through a random member that can connect to it, when the one before is in."""
        for index in indices:
            self.tried += 1
            self._mesh.network.start(index)
            for _ in range(TRIES):
                introducer = self._introducer(index)
                if introducer is not None and self._joins(index, self._mint(introducer, 1)):
                    break
            self._agenda.wait(interval)

    def flash(self, indices: list[int], within: float) -> None:
        """All by one token of the founder's, at moments within that many seconds."""
        token = self._mint(0, len(indices))
        self.began = self._mesh.network.now
        waiting: dict[int, int] = {}

        def come(index: int) -> None:
            self.tried += 1
            self._mesh.network.start(index)
            waiting[index] = self._paste(index, token)

        for index in indices:
            self._agenda.after(self._dice.uniform(0.0, within), partial(come, index))
        self._agenda.every(LOOK_INTERVAL, lambda: self._take_answers(waiting), self.began + within + JOIN_TIMEOUT)
        self._agenda.wait(within + JOIN_TIMEOUT, lambda: self.tried == len(indices) + 1 and not waiting)

    def _take_answers(self, waiting: dict[int, int]) -> None:
        network = self._mesh.network
        for index, request in list(waiting.items()):
            answer = network.answer(index, request)
            if answer is not None:
                del waiting[index]
                if answer[0] is None:
                    self._came(index)

    def _came(self, index: int) -> None:
        self._mesh.enter(index)
        self.ended = self._mesh.network.now

    def join(self, index: int, introducer: int) -> bool:
        """One more, through that member; whether it is in."""
        self.tried += 1
        if not self._mesh.is_up(index):
            self._mesh.network.start(index)
        return self._joins(index, self._mint(introducer, 1))

    def _joins(self, index: int, token: str) -> bool:
        network = self._mesh.network
        request = self._paste(index, token)
        network.run(JOIN_TIMEOUT, until=lambda: network.answer(index, request) is not None)
        answer = network.answer(index, request)
        if answer is not None and answer[0] is None:
            self._came(index)
        return index in self._mesh.since

    def _paste(self, index: int, token: str) -> int:
        return self._mesh.network.request(index, "mesh.join", token=token, timeout=JOIN_TIMEOUT)

    def _mint(self, introducer: int, uses: int) -> str:
        return str(self._mesh.network.ask(introducer, "introductions.mint", uses=uses)["token"])

    def _introducer(self, index: int) -> int | None:
        mesh = self._mesh
        able = [
            i for i in mesh.honest() if not mesh.network.unconnectable(i, index) and mesh.node(i).admitting.may_admit
        ]
        return self._dice.choice(able) if able else None
