"""What the core gives to holders, at a real push service: taken back it is refused at once; a flood costs newcomers."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from meshd.config import Config, PushConfig
from meshd.core import commands as cm
from meshd.core import events as ev
from meshd.core.context import Context
from meshd.core.pushing.audit import Audit
from meshd.core.pushing.channels import Channels
from meshd.core.pushing.holders import ESTABLISHED_AFTER, Holders
from meshd.crypto import vapid
from meshd.crypto.suite import RealSuite
from meshd.ids import Instance, Now, PushId
from meshd.push.sender import PushSender
from meshd.push.service.app import PushService, serve
from meshd.push.service.config import Limits, ServiceConfig
from meshd.push.user_agent import UserAgents
from meshd.wire.endpoint import join_endpoint
from meshd.wire.parts import Grant

ANNA, BERT, THIEF = b"a" * 32, b"b" * 32, b"t" * 32
MAX_STORED = 150  # of one user agent, as autopush


class Owner:
    """The part of the core that keeps subscriptions, with a real receiver and sender."""

    def __init__(self, service: PushService) -> None:
        push = PushConfig(services=(service.websocket_url,), trusted_origins=(service.public_url,), request_timeout=5.0)
        self.ctx = Context(Config(push=push), RealSuite(b"i" * 32, b"s" * 32), random.Random(1), Instance(bytes(8)))
        self.ctx.now = Now(1000.0, time.time())
        self.channels = Channels(self.ctx, {})
        self.holders = Holders(self.ctx, {}, self.channels, Audit(self.ctx, {}))
        self.news = trio.Event()
        self.statuses: dict[PushId, int] = {}
        self.received: list[ev.PushReceived] = []
        self.uaids: dict[bool, str] = {}
        self.forgotten: list[bool] = []  # which of our user agents the service has forgotten
        self.agents = UserAgents(push, self.deliver, random.Random(2))
        self.sender = PushSender(push, self.deliver)

    def deliver(self, event: Any) -> None:
        match event:
            case ev.UserAgentConnected(service, uaid, newcomers):
                self.uaids[newcomers] = uaid
                if self.channels.on_connected((service, newcomers), uaid):
                    self.forgotten.append(newcomers)
            case ev.UserAgentDisconnected(service, reason, newcomers):
                self.channels.on_disconnected((service, newcomers), reason)
            case ev.ChannelRegistered(channel, endpoint):
                self.channels.on_registered(channel, endpoint)
            case ev.PushReceived():
                self.received.append(event)
            case ev.PushAnswered(push, status):
                self.statuses[push] = status
        self.carry_out()
        self.news.set()

    def carry_out(self) -> None:
        while commands := self.ctx.take_commands():
            for command in commands:
                if isinstance(command, cm.Persist):
                    self.ctx.persisted(command.ticket)
                elif isinstance(
                    command, cm.OpenUserAgent | cm.CloseUserAgent | cm.RegisterChannel | cm.UnregisterChannel
                ):
                    self.agents.submit(command)
        self.ctx.facts.clear()

    async def until(self, condition: Any) -> None:
        with trio.fail_after(20):
            while not condition():
                self.news = trio.Event()
                await self.news.wait()

    async def give(self, holder: bytes) -> Grant:
        self.holders.ensure(holder)
        self.carry_out()
        await self.until(lambda: self.holders.is_ready(holder))
        grant = self.holders.renewal(holder, 0)
        assert grant is not None
        row = self.holders.row(holder)
        assert row is not None
        assert self.holders.on_taken(holder, 0, row.granted_until)
        self.carry_out()
        return grant

    async def push(self, grant: Grant) -> int:
        """As the holder would, with what it was given."""
        (part,) = grant.subscriptions
        now = self.ctx.now.unix
        capability = next(c for c in part.capabilities if now + 600 <= c.exp <= now + 85_800)
        endpoint = join_endpoint(part.prefix, part.tail)
        suite = self.ctx.suite
        authorization = suite.authorization(
            part.vapid_key, vapid.origin_of(endpoint), capability.exp, vapid.DEFAULT_SUBJECT, capability.signature
        )
        number = self.ctx.next_push()
        body = suite.encrypt_push(part.p256dh, part.auth, b"hello")
        self.sender.submit(cm.SendPush(number, endpoint, authorization, body, 600, "high"))
        await self.until(lambda: number in self.statuses)
        return self.statuses[number]

    def reconnect(self) -> None:
        """As after a start of the daemon: the uaids are what the service called us last."""
        self.agents = UserAgents(self.ctx.config.push, self.deliver, random.Random(3))
        for newcomers, uaid in self.uaids.items():
            self.agents.submit(cm.OpenUserAgent(self.channels.services[0], uaid, newcomers))


async def run_agents(own: Owner, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(own.agents.run)
            task_status.started(scope)


@asynccontextmanager
async def at_a_service(tmp_path: Path, **limits: Any) -> AsyncIterator[tuple[Owner, trio.Nursery, trio.CancelScope]]:
    config = ServiceConfig(tmp_path, listen="127.0.0.1:0", limits=Limits(**limits))
    async with trio.open_nursery() as nursery:
        own = Owner(await nursery.start(serve, config))
        own.holders.activate()
        own.carry_out()
        await nursery.start(own.sender.run)
        yield own, nursery, await nursery.start(run_agents, own)
        nursery.cancel_scope.cancel()


async def test_what_is_taken_back_is_refused_at_once(tmp_path: Path) -> None:
    async with at_a_service(tmp_path) as (own, _, _):
        of_anna, of_bert = await own.give(ANNA), await own.give(BERT)
        assert await own.push(of_anna) == 201
        assert await own.push(of_bert) == 201
        own.holders.release(BERT)
        own.carry_out()
        await own.give(THIEF)  # its registration is answered after what was asked before it
        assert await own.push(of_bert) in (404, 410)
        assert await own.push(of_anna) == 201


async def test_a_flood_takes_the_newcomers_alone_with_it(tmp_path: Path) -> None:
    """The service is as autopush: it knows no limit for one channel, and resets a user agent with 150 messages."""
    async with at_a_service(tmp_path, max_stored_per_channel=1_000) as (own, nursery, scope):
        await own.give(ANNA)
        own.ctx.now = Now(own.ctx.now.mono, own.ctx.now.unix + ESTABLISHED_AFTER)
        assert own.holders.promote(ANNA)
        own.ctx.now = Now(own.ctx.now.mono, own.ctx.now.unix - ESTABLISHED_AFTER)
        of_anna, of_bert, of_thief = await own.give(ANNA), await own.give(BERT), await own.give(THIEF)
        scope.cancel()  # this machine is switched off
        assert await own.push(of_anna) == 201
        statuses = [await own.push(of_thief) for _ in range(MAX_STORED + 1)]
        assert statuses == [201] * MAX_STORED + [410]
        assert await own.push(of_bert) in (404, 410)
        assert await own.push(of_anna) == 201
        own.reconnect()
        await nursery.start(run_agents, own)
        await own.until(lambda: own.forgotten and len(own.received) >= 2)
        assert own.forgotten == [True]
        assert {push.newcomers for push in own.received} == {False}
        assert own.holders.is_ready(ANNA)
        await own.until(lambda: own.holders.is_ready(BERT))  # with a new channel, to be told over the mesh
        assert not own.holders.is_current(BERT, 0)
        assert own.holders.is_current(ANNA, 0)
