"""Anna's sender on its own: she holds a grant of Bert's, and each answer of a push service is the test's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from playbook import Player, Stage

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.facts import PushOutcome
from meshd.ids import Now

SERVICES = ("mozilla", "wss://push.example/")


class Desk:
    """What she asks to be sent, what it is answered, and what comes of it."""

    def __init__(self, services: tuple[str, ...] = ("mozilla",)) -> None:
        self.stage = Stage("anna", "bert", config=replace(Config(), push=PushConfig(services=services)))
        self.stage.mesh(60.0)
        self.anna: Player = self.stage["anna"]
        self.bert: Player = self.stage["bert"]
        self.pushing = self.anna.node.pushing
        self.grants = self.anna.node.grants
        self.ctx = self.anna.node._ctx
        self.ctx.take_commands()
        self.ctx.now = self.anna.now
        self.outcomes: list[PushOutcome] = []
        self.noticed: list[tuple[str, dict[str, Any]]] = []

    def send(self, name: bytes = b"push", lifetime: float = 120.0, **more: Any) -> bool:
        more.setdefault("peer", self.bert.id)
        return self.pushing.send(name, b"plaintext", lifetime=lifetime, **more)

    def asked(self) -> list[cm.SendPush]:
        """What is to be sent since last time."""
        facts = [self.ctx.facts.popleft() for _ in range(len(self.ctx.facts))]
        self.outcomes += [fact for fact in facts if isinstance(fact, PushOutcome)]
        commands = self.ctx.take_commands()
        self.noticed += [(command.name, dict(command.fields)) for command in commands if isinstance(command, cm.Notify)]
        return [command for command in commands if isinstance(command, cm.SendPush)]

    def answer(self, push: cm.SendPush, status: int, retry_after: float | None = None, detail: str = "") -> None:
        self.pushing.on_answer(ev.PushAnswered(push.push, status, detail, retry_after))

    def wait(self, seconds: float) -> list[cm.SendPush]:
        """Let time pass; gives what is sent meanwhile."""
        target = self.ctx.now.mono + seconds
        sent = self.asked()
        while (due := self.ctx.timers.pop_due(target)) is not None:
            (name, about), deadline = due
            if name == "push":
                self.ctx.now = Now(max(deadline, self.ctx.now.mono), self.ctx.now.unix)
                self.pushing.on_timer(about)
                sent += self.asked()
        self.ctx.now = Now(target, self.ctx.now.unix)
        return sent

    def let_in(self, seconds: float) -> None:
        """Let time pass on both clocks; nothing is under way."""
        self.ctx.now = Now(self.ctx.now.mono + seconds, self.ctx.now.unix + seconds)

    @property
    def counters(self) -> dict[str, int]:
        return self.ctx.counters

    def notices(self, name: str) -> list[dict[str, Any]]:
        """The notifications of that name so far."""
        self.asked()
        return [fields for notice, fields in self.noticed if notice == name]

    def result(self) -> str | None:
        self.asked()
        return self.outcomes[-1].outcome if self.outcomes else None
