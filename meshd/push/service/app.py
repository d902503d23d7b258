"""The push service as a whole: opened, listening, keeping house, closed. Runs alone or inside a daemon."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import trio

from meshd import metrics_server
from meshd.errors import ConfigError, ListenError, StoreError
from meshd.push.service import metrics
from meshd.push.service.config import ServiceConfig, parse_listen, public_url_for
from meshd.push.service.configuration import certificate_of
from meshd.push.service.delivery import Delivery, log
from meshd.push.service.endpoints import Endpoints
from meshd.push.service.http import HttpConnection
from meshd.push.service.proxies import TrustedProxies
from meshd.push.service.registry import Registry
from meshd.push.service.store import Store
from meshd.push.service.stun import OFF, answer_stun, bind_stun
from meshd.push.service.tls import ServerCertificate
from meshd.push.service.user_agents import Conversation
from meshd.push.service.websocket import CLOSE_TRY_LATER, Stream, WebSocket
from meshd.rates import source_key
from meshd.wire.stun_responder import StunResponder

# Policy
_BACKLOG = 512  # connections that wait to be taken: all daemons come back at once after a restart
_OVERLOADED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class PushService:
    """A running push service. ``public_url`` is the origin of its endpoints, ``websocket_url`` for user agents."""

    def __init__(
        self,
        config: ServiceConfig,
        delivery: Delivery,
        public_url: str,
        port: int,
        proxies: TrustedProxies,
        certificate: ServerCertificate | None = None,
    ) -> None:
        self.public_url = public_url
        self.websocket_url = f"ws{public_url.removeprefix('http')}/"
        self.port = port
        self.stun_port = 0  # 0: STUN is not answered
        self.responder = StunResponder(delivery.counters)
        self._limits = config.limits
        self._delivery = delivery
        self._endpoints = Endpoints(delivery, public_url)
        self._proxies = proxies
        self._certificate = certificate
        self._connections = 0
        self._by_source: Counter[str] = Counter()

    @property
    def counters(self) -> Counter[str]:
        """What happened since the start, by name; only ever counting up."""
        return self._delivery.counters

    def status(self) -> str:
        """One line for people, as in systemd's STATUS."""
        _, channels, stored = self._delivery.registry.counts()
        return f"{self._delivery.connected} user agents connected, {channels} channels, {stored} messages waiting"

    def metrics(self) -> str:
        """The page for Prometheus."""
        return metrics.page(self._delivery, self._connections)

    def reload(self) -> None:
        """Read the certificate again. Raises ConfigError, and goes on with the one it has."""
        if self._certificate is not None:
            self._certificate.reload()

    async def serve_stream(self, tcp: trio.SocketStream) -> None:
        """One connection, within the limits on their number."""
        peer = _address_of(tcp)
        is_proxy = self._proxies.includes(peer)  # then it stands for many, and who they are comes with each request
        if self._connections >= self._limits.max_connections or not (is_proxy or self._has_room_for(peer)):
            await self._turn_away(tcp)
            return
        self._connections += 1
        with contextlib.nullcontext() if is_proxy else self._counted(peer):
            try:
                stream = await self._with_tls(tcp)
                handler = self._endpoints.handle
                await HttpConnection(stream, peer, self._limits, self._proxies, handler, self._converse).run()
            except (trio.BrokenResourceError, trio.TooSlowError):
                self.counters["tls_failed"] += 1  # nothing else lets these through
            except Exception as error:
                self._crashed(error)
            finally:
                self._connections -= 1
                await trio.aclose_forcefully(tcp)

    async def serve_own(self, stream: trio.SocketStream) -> None:
        """A connection of the process that the service runs in: no TLS, and no limits on its number.

        Raises nothing, as ``serve_stream``; its end is the receiver's to notice, which connects again.
        """
        handler = self._endpoints.handle
        try:
            await HttpConnection(stream, "own", self._limits, self._proxies, handler, self._converse_own).run()
        except Exception as error:
            self._crashed(error)
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse_own(self, websocket: WebSocket, peer: str) -> None:
        await Conversation(websocket, self._delivery, self._endpoints.endpoint_of).run()

    async def _with_tls(self, tcp: trio.SocketStream) -> Stream:
        if self._certificate is None:
            return tcp
        stream = trio.SSLStream(tcp, self._certificate.context, server_side=True, https_compatible=True)
        with trio.fail_after(self._limits.request_timeout):
            await stream.do_handshake()
        return stream

    async def _turn_away(self, tcp: trio.SocketStream) -> None:
        self.counters["refused_connections"] += 1
        if self._certificate is None:
            with trio.move_on_after(self._limits.close_timeout), contextlib.suppress(trio.BrokenResourceError):
                await tcp.send_all(_OVERLOADED)
        await trio.aclose_forcefully(tcp)

    def _crashed(self, error: Exception) -> None:
        """A bug of ours must cost one connection, not the service."""
        self.counters["connection_crashed"] += 1
        log.exception("connection_crashed", error=repr(error))

    def _has_room_for(self, source: str) -> bool:
        return self._by_source[source_key(source)] < self._limits.max_connections_per_source

    @contextlib.contextmanager
    def _counted(self, source: str) -> Iterator[None]:
        key = source_key(source)
        self._by_source[key] += 1
        try:
            yield
        finally:
            self._by_source[key] -= 1
            if not self._by_source[key]:
                del self._by_source[key]

    async def keep_house(self) -> None:
        """Forget what has expired, now and then."""
        while True:
            self._delivery.keep_house()
            await trio.sleep(self._limits.housekeeping_interval)

    async def _converse(self, websocket: WebSocket, peer: str) -> None:
        conversation = Conversation(websocket, self._delivery, self._endpoints.endpoint_of)
        if websocket.source == peer:
            await conversation.run()
        elif self._has_room_for(websocket.source):
            with self._counted(websocket.source):
                await conversation.run()
        else:
            self.counters["refused_connections"] += 1
            websocket.close(CLOSE_TRY_LATER, "TooManyConnections")


async def serve(
    config: ServiceConfig,
    *,
    listeners: Sequence[trio.SocketListener] = (),
    clock: Callable[[], float] = time.time,
    task_status: trio.TaskStatus[PushService] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a push service until cancelled; ``task_status`` gives the ``PushService`` when it is listening.

    ``listeners`` stand in for ``config.listen`` (socket activation). ``clock`` gives Unix seconds. Raises ConfigError,
    StoreError, ListenError.
    """
    certificate = certificate_of(config)
    proxies = TrustedProxies(config.trusted_proxies, config.proxy_header)  # complains before anything opens
    listeners = list(listeners) or await _listen(config.listen)
    udp: list[trio.socket.SocketType] = []
    try:
        udp = await _stun_sockets(config, *_address_listened_on(listeners[0]))
        store = await trio.to_thread.run_sync(partial(Store.open, config.state_dir, config.limits, fsync=config.fsync))
    except (StoreError, ConfigError, ListenError):
        for opened in (*(listener.socket for listener in listeners), *udp):
            opened.close()
        raise
    try:
        snapshot = await trio.to_thread.run_sync(store.load)
        registry = Registry(snapshot.secret, config.limits)
        registry.restore(snapshot.user_agents, snapshot.channels, snapshot.messages)
        delivery = Delivery(registry, store, config.limits, clock)
        host, port = _address_listened_on(listeners[0])
        service = PushService(config, delivery, public_url_for(config, host, port), port, proxies, certificate)
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            nursery.start_soon(service.keep_house)
            if config.metrics_port:
                await nursery.start(metrics_server.serve_if_possible, config.metrics_port, service.metrics)
            for socket in udp:
                service.stun_port = socket.getsockname()[1]
                nursery.start_soon(answer_stun, socket, service.responder)
            await nursery.start(partial(trio.serve_listeners, service.serve_stream, listeners))
            log.info("push_service_ready", url=service.public_url, port=port, stun_port=service.stun_port)
            task_status.started(service)
    finally:
        # Blocking, but bounded: what a moment's requests have queued. It must not be skipped by a second cancellation.
        store.close()
        for opened in (*(listener.socket for listener in listeners), *udp):
            opened.close()
        log.info("push_service_stopped")


async def _stun_sockets(config: ServiceConfig, host: str, port: int) -> list[trio.socket.SocketType]:
    """Where STUN is answered. What was asked for by name must be had; the port beside TCP's is a convenience."""
    if config.stun == OFF or (config.stun is None and not host):
        return []
    if config.stun is not None:
        try:
            return await bind_stun(config.stun)
        except OSError as error:
            raise _no_listening(config.stun, error) from None
    try:
        return await bind_stun(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except OSError as error:
        log.warning("stun_unavailable", host=host, port=port, reason=error.strerror or str(error))
        return []


async def _listen(listen: str) -> list[trio.SocketListener]:
    host, port = parse_listen(listen)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host or None, backlog=_BACKLOG)
    except OSError as error:
        raise _no_listening(listen, error) from None
    if port == 0:  # a name with two addresses would get two ports, and only one of them could be told
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    return listeners


def _no_listening(where: str, error: OSError) -> ListenError:
    return ListenError(f"cannot listen on {where}: {error.strerror or error}")


def _address_listened_on(listener: trio.SocketListener) -> tuple[str, int]:
    address = listener.socket.getsockname()
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else ("", 0)


def _address_of(stream: trio.SocketStream) -> str:
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return ""
    return str(peer[0]) if isinstance(peer, tuple) else "unix"
