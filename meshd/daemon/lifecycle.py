"""From configuration to a serving daemon and back: what is started in which order, and what ends after what.

    store, driver            until nothing can happen any more
    └─ links                 closed after the last goodbye has been handed to them
       └─ push, control      cancelled first: no more requests, no more pushes

Everything that can refuse to start does so before the core gets its first event.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
import trio

from meshd import VERSION, metrics_server, systemd
from meshd.config import Config
from meshd.config_reload import changes_between, reloaded
from meshd.control import listeners as control_listeners
from meshd.control import server as control_server
from meshd.control.access import Access
from meshd.core import commands
from meshd.core.commands import Put
from meshd.core.events import AddressesChanged, Event, Reconfigured
from meshd.core.node import Node
from meshd.core.notifications import NOTIFICATIONS
from meshd.core.state import TABLES, SealingKeyRow, Stored
from meshd.crypto import sealing
from meshd.crypto.suite import RealSuite
from meshd.daemon import keys, logs
from meshd.daemon.backend import DaemonBackend
from meshd.daemon.driver import LAST_WORDS_TIMEOUT, Driver
from meshd.daemon.moving import Moving, take_over
from meshd.daemon.network_check import NetworkCheck
from meshd.daemon.own_push import OwnPushService, wants_own_service
from meshd.daemon.recorder import open_recorder
from meshd.daemon.status import StatusLine
from meshd.daemon.store import Store
from meshd.errors import ConfigError, MeshError
from meshd.ids import LinkId, Now
from meshd.links import guest
from meshd.links.port import LinkPort, open_links
from meshd.links.statistics import LinkStatistics
from meshd.portmap.port_mapper import PortMapper
from meshd.portmap.values import PortMapping
from meshd.portmap.words import describe
from meshd.push.ntfy_state import file_record
from meshd.push.sender import PushSender
from meshd.push.token_file import read_token
from meshd.push.user_agent import UserAgents
from meshd.wire.codec import encode

# Policy
GOODBYE_TIMEOUT = 0.5  # seconds, twice, until the last changes are durable; links have 3 more; systemd kills at 5
STANDSTILL_TIMEOUT = 30.0  # seconds until all is durable before a node moves: what its file lacks is lost

_log = structlog.get_logger("lifecycle")


@dataclass(frozen=True, slots=True)
class Setup:
    """What ``serve`` works with. ``read_config`` reads the file again and raises ConfigError."""

    config: Config
    file: str | None
    read_config: Callable[[], Config]
    environment: MutableMapping[str, str]
    record: str = ""  # a file to record to, for debugging


class Daemon:
    """One run of the daemon."""

    def __init__(self, setup: Setup, store: Store, identity: keys.IdentityKeys, notifier: systemd.Notifier) -> None:
        self._setup = setup
        self._config = setup.config
        self._store = store
        stored = store.load()
        seeds = (identity.identity, first_sealing_seed(store, stored, identity))
        recorder = open_recorder(setup.record, seeds)
        suite = recorder.suite if recorder else RealSuite(*seeds)
        self.peer_id = suite.peer_id
        self._node = Node(setup.config, suite, recorder.dice if recorder else random.SystemRandom(), stored)
        if recorder:
            recorder.begin(self._node, setup.config, stored)
        self._notifier = notifier
        self._driver = Driver(recorder or self._node, observe=self._observe, trace=setup.config.log.level == "debug")
        push = setup.config.push
        self._own_push = OwnPushService(push, store.path) if wants_own_service(push) else None
        trusted = (*push.trusted_origins, push.own_url) if self._own_push else push.trusted_origins
        self._sender = PushSender(replace(push, trusted_origins=trusted), self._driver.deliver)
        self._agents = UserAgents(
            push,
            self._driver.deliver,
            random.SystemRandom(),
            records=partial(file_record, store.path),
            unifiedpush_token=read_token(push.unifiedpush_token_file),
            connect_own=self._own_push.connect if self._own_push else None,
        )
        self._links: LinkPort | None = None
        self._addresses: tuple[str, ...] = ()
        secret = identity.derived(b"port mapping")
        self._mapper = PortMapper(setup.config.links, self._port_at, self._mapped, secret, random.SystemRandom())
        self._network_check = NetworkCheck(setup.config.links, self._mapper)
        self._backend = DaemonBackend(
            self._driver,
            self._node.view,
            self.peer_id,
            setup.config,
            setup.file,
            store_size=store.size,
            counters=self._counters,
            links=self._link_statistics,
            check_network=self._network_check.run,
        )
        self._backend.moving = Moving(
            store, identity.identity, keys.is_given(setup.environment), self._state, self._stand_still, _ask_to_end
        )
        self._status = StatusLine(self._notifier, self._backend.status)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigError if the control socket cannot be had, CoreFailed."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as lasting:
                await lasting.start(self._store.run, self._driver.deliver)
                await lasting.start(self._driver.run)
                async with (
                    open_links(
                        self._config.links, self._links_say, _log_link_fault, self._backend.descriptors.take
                    ) as self._links,
                    trio.open_nursery() as ports,
                ):
                    async with self._control_listeners() as listeners:
                        await self._start_ports(ports, listeners)
                        await self._heed(signals)
                        await self._say_goodbye()
                    ports.cancel_scope.cancel()
                self._driver.end()  # what the links said while they closed has been handled, and stored:
                with trio.move_on_after(GOODBYE_TIMEOUT):
                    await self._store.drain()
                lasting.cancel_scope.cancel()

    # -- start --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _control_listeners(self) -> AsyncIterator[list[trio.SocketListener]]:
        control = self._config.control
        taken = systemd.as_listeners(systemd.take_sockets(self._setup.environment))
        listeners = taken or await control_listeners.open_listeners(control.socket, control.admin_group)
        try:
            yield listeners
        finally:
            with trio.CancelScope(shield=True):
                if not taken:  # systemd's own stays, for the next start
                    await control_listeners.close_listeners(listeners, control.socket)

    def _attach_ports(self) -> None:
        attach = self._driver.attach
        assert self._links is not None
        self._backend.link_keys = self._links
        attach(self._store.submit, commands.Persist)
        attach(self._links.submit, commands.PrepareLink, commands.ConnectLink, commands.SendMessage, commands.CloseLink)
        attach(
            self._links.submit, commands.SendHeartbeat, commands.ProbePath, commands.OpenStream, commands.CloseStream
        )
        attach(
            self._links.submit_circuit,
            commands.OpenRelayedStream,
            commands.AttachCircuit,
            commands.EndRelayedStream,
            commands.SpliceCircuits,
            commands.CloseCircuit,
        )
        attach(self._use_stun_servers, commands.UseStunServers)
        attach(self._sender.submit, commands.SendPush)
        attach(
            self._agents.submit,
            commands.OpenUserAgent,
            commands.CloseUserAgent,
            commands.RegisterChannel,
            commands.UnregisterChannel,
            commands.AcknowledgePush,
        )

    async def _start_ports(self, ports: trio.Nursery, listeners: list[trio.SocketListener]) -> None:
        control = self._config.control
        self._attach_ports()
        if self._own_push:
            await ports.start(self._own_push.run)
        await ports.start(self._sender.run)
        await ports.start(self._agents.run)
        self._driver.start()
        await ports.start(self._mapper.run)
        access = Access(control.admin_group, control.write_group)
        # only now: who connected to the waiting socket meanwhile finds a node that has begun
        await ports.start(control_server.serve, listeners, self._backend, access)
        if control.metrics_port:
            await ports.start(metrics_server.serve_if_possible, control.metrics_port, self._backend.metrics)
        if interval := self._notifier.watchdog_interval:
            ports.start_soon(self._answer_watchdog, interval)
        ports.start_soon(self._status.run)
        self._notifier.ready(self._status.text())
        _log.info(
            "daemon_started",
            version=VERSION,
            peer=self.peer_id,
            state_dir=str(self._store.path),
            socket=control.socket,
            config=self._setup.file or "",
        )

    # -- while it runs ------------------------------------------------------------------------------------------------

    def _observe(self, command: commands.Notify | commands.DeliverMessage, now: Now) -> None:
        if isinstance(command, commands.Notify):
            # a field may have any name; these two mean something to the logger
            fields = {f"{name}_" if name in ("event", "exc_info") else name: v for name, v in command.fields.items()}
            known = NOTIFICATIONS.get(command.name)
            getattr(_log, known.level if known else "info")(command.name, **fields)
            self._status.touch()
        self._backend.observe(command, now)

    def _link_statistics(self) -> Mapping[LinkId, LinkStatistics]:
        return self._links.statistics() if self._links is not None else {}

    def _links_say(self, event: Event) -> None:
        # what routers map is in the event too, so only another set of our own addresses sends us to look for routers
        if isinstance(event, AddressesChanged) and event.addresses != self._addresses:
            self._addresses = event.addresses
            self._mapper.look()
        self._driver.deliver(event)

    def _use_stun_servers(self, command: commands.UseStunServers) -> None:
        assert self._links is not None
        self._network_check.mesh_servers = command.servers
        self._links.submit(command)

    def _port_at(self, address: str) -> int:
        """The UDP port of links at a local address; 0 if there is none."""
        shared = self._links.sockets.for_address(address) if self._links is not None else None
        return shared.port if shared else 0

    def _mapped(self, mappings: tuple[PortMapping, ...]) -> None:
        routers = [describe(report) for report in self._mapper.reports() if report.is_settled]
        if routers:
            _log.info("port_mapping", external=[f"{m.external[0]} {m.external[1]}" for m in mappings], routers=routers)
        if self._links is not None:
            self._links.set_mappings(mappings)

    def _counters(self) -> dict[str, int]:
        ports = {
            "driver": self._driver.counters,
            "links": self._links.counters if self._links is not None else {},
            "push": self._sender.counters,
            "user_agent": self._agents.counters,
            "own_push_service": self._own_push.counters if self._own_push else {},
            "port_mapping": self._mapper.counters,
        }
        return {f"{port}_{name}": count for port, counters in ports.items() for name, count in counters.items()}

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """Reload at SIGHUP; returns at the other two."""
        async for number in signals:
            if number != signal.SIGHUP:
                _log.info("daemon_stopping", signal=signal.Signals(number).name)
                return
            self._notifier.reloading()
            self._reload()
            self._notifier.ready(self._status.text())

    def _reload(self) -> None:
        try:
            new = self._setup.read_config()
        except ConfigError as error:
            self._status.note = "reload refused: the configuration has a mistake, see the log"
            _log.error("reload_refused", reason=str(error))
            return
        refused = self._renew_certificate()
        at_once, at_restart = changes_between(self._config, new)
        self._config = self._backend.config = reloaded(self._config, new)
        self._driver.trace = new.log.level == "debug"
        logs.configure(new.log)
        self._driver.deliver(Reconfigured(self._config))
        restart = f"restart for {', '.join(at_restart)}" if at_restart else ""
        self._status.note = "; ".join(filter(None, (refused, restart)))
        _log.info("reloaded", changed=at_once, needs_restart=at_restart)

    def _renew_certificate(self) -> str:
        """'', or what the status says of a certificate that cannot be used; the old one goes on."""
        if self._own_push:
            try:
                self._own_push.reload()
            except ConfigError as error:
                _log.error("own_certificate_refused", reason=str(error))
                return "push.own_tls_certificate refused, see the log"
        return ""

    async def _answer_watchdog(self, interval: float) -> None:
        """Says that we live only if both loops do: asyncio carries the links, trio everything else."""
        while True:
            if await guest.both_loops_turn(interval):
                self._notifier.watchdog()
            await trio.sleep(interval / 2)

    # -- stop ---------------------------------------------------------------------------------------------------------

    def _state(self) -> str:
        return str(self._node.view().status["state"])

    async def _stand_still(self) -> None:
        """Nothing changes any more: the links are told goodbye, the last changes are durable. Raises TooSlowError."""
        self._driver.stop()
        self._driver.end()
        with trio.fail_after(STANDSTILL_TIMEOUT):
            await self._store.drain()

    async def _say_goodbye(self) -> None:
        self._notifier.stopping("stopping")
        self._driver.stop()
        with trio.move_on_after(GOODBYE_TIMEOUT):
            await self._store.drain()
        await trio.sleep(LAST_WORDS_TIMEOUT)  # requests that were refused just now are still being answered


def first_sealing_seed(store: Store, stored: Stored, identity: keys.IdentityKeys) -> bytes:
    """That of the sealing key that serves until the store has one; the store has one afterwards. Raises StoreError."""
    table = stored["sealing_keys"]
    seed = identity.sealing or os.urandom(keys.SEED_SIZE)
    if not table:
        public, row = sealing.public_of(seed), encode(SealingKeyRow(seed, int(time.time())))
        store.put(Put("sealing_keys", public, row))
        table[public] = row
    keys.forget_sealing(store.path)
    return seed


async def serve(setup: Setup) -> None:
    """Run the daemon under ``meshd.links.guest.run`` until it is told to stop.

    Raises ConfigError, StoreError, CoreFailed; anything else is a bug.
    """
    notifier = systemd.Notifier(setup.environment)
    try:
        store = Store.open(Path(setup.config.node.state_dir), TABLES)
        try:
            take_over(store)
            await Daemon(setup, store, keys.load(store.path, setup.environment), notifier).run()
        finally:
            store.close()
    except Exception as error:
        cause = first_of(error)
        notifier.status(f"failed: {cause if isinstance(cause, MeshError) else type(cause).__name__}")
        raise cause from cause.__cause__
    finally:
        notifier.close()
    _log.info("daemon_stopped")


def first_of(error: BaseException) -> BaseException:
    """The first exception that is no group: nurseries wrap each error in one, and people want to read the error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def run(setup: Setup) -> int:
    """Run the daemon to its end; the exit status: 0, 1 for a failure, 2 for a configuration that cannot be used."""
    os.umask(0o077)
    logs.configure(setup.config.log)
    try:
        guest.run(serve, setup, on_stray=_log_stray)
    except ConfigError as error:
        _log.critical("start_refused", reason=str(error))
        return 2
    except MeshError as error:
        _log.critical("daemon_failed", reason=str(error))
        return 1
    except Exception as error:
        _log.critical("daemon_failed", reason=type(error).__name__, exc_info=error)
        return 1
    return 0


def _ask_to_end() -> None:
    """As a service manager does; who is being answered still hears it."""
    os.kill(os.getpid(), signal.SIGTERM)


def _log_link_fault(link: LinkId | None, error: BaseException) -> None:
    _log.error("link_fault", link=link, error=type(error).__name__, exc_info=error)


def _log_stray(error: BaseException | None, context: dict[str, object]) -> None:
    _log.error("stray_failure", text=str(context.get("message", "")), exc_info=error)
