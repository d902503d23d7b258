"""The daemon as the control server sees it: what only reads comes from a view of the node, the rest asks the core."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from meshd import VERSION
from meshd.config import Config
from meshd.control.backend import Caller
from meshd.control.methods import METHODS, PROTOCOL
from meshd.control.passing import Passed
from meshd.control.watchers import Watcher
from meshd.core.commands import DeliverMessage, Notify
from meshd.core.views import NodeView
from meshd.daemon import metrics, redaction
from meshd.daemon.descriptors import Descriptors
from meshd.daemon.driver import Driver, read_clocks
from meshd.daemon.moving import Moving
from meshd.daemon.presentation import fields_to_json, params_from_json, to_json
from meshd.daemon.traffic import with_traffic
from meshd.errors import Code, ControlError
from meshd.ids import LinkId, Now, text_of
from meshd.links.statistics import LinkStatistics
from meshd.process import read_usage

# Policy
MAX_LISTED_SIZE = 1 << 20  # bytes of bodies in one messages.list; who wants the rest reads these first

EVENTS, MESSAGES = "events.subscribe", "messages.subscribe"


class LinkKeys(Protocol):
    """What the links have of keys: see ``meshd.links.port.LinkPort``."""

    def renew_certificate(self) -> None:
        """Use another certificate for links that begin from now on."""

    def certificate(self) -> tuple[bytes, float]:
        """The fingerprint, and its age in seconds."""


class DaemonBackend:
    """Implements ``meshd.control.backend.Backend``. ``counters`` gives those of the ports, ``links`` their traffic."""

    def __init__(
        self,
        driver: Driver,
        view: Callable[[], NodeView],
        peer_id: bytes,
        config: Config,
        file: str | None,
        *,
        store_size: Callable[[], int | None] = lambda: None,
        counters: Callable[[], Mapping[str, int]] = lambda: {},
        links: Callable[[], Mapping[LinkId, LinkStatistics]] = lambda: {},
        check_network: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None = None,
        clocks: Callable[[], Now] = read_clocks,
    ) -> None:
        self.config = config
        """In force; replaced at a reload."""
        self.link_keys: LinkKeys | None = None
        """Of the links, once there are any."""
        self.moving: Moving | None = None
        """Takes the methods that take this node elsewhere, or another one in."""
        self.descriptors = Descriptors()
        """What requests at hand have passed: the links take theirs from here."""
        self._driver = driver
        self._view = view
        self._peer_id = text_of(peer_id)
        self._file = file
        self._store_size = store_size
        self._counters = counters
        self._links = links
        self._check_network = check_network
        self._clocks = clocks
        self._started = clocks()
        self._watchers: dict[str, list[Watcher]] = {EVENTS: [], MESSAGES: []}
        self._reads: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "node.status": lambda params: self.status(),
            "node.version": lambda params: {"version": VERSION, "protocol": PROTOCOL, "peer_id": self._peer_id},
            "node.metrics": lambda params: {"text": self.metrics()},
            "peers.list": lambda params: {"peers": self.peers()},
            "mesh.graph": lambda params: self._view().graph(),
            "messages.list": self._messages,
            "messages.outbox": lambda params: {"messages": self._view().outbox},
            "introductions.list": lambda params: {"introductions": self._view().introductions},
            "admins.list": lambda params: {"admins": self._view().admins},
            "revocations.list": lambda params: {"revocations": self._view().revocations},
            "keys.show": lambda params: {**self._view().keys, "certificate": self._certificate()},
            "capabilities.list": lambda params: self._view().capabilities,
            "capabilities.audit": self._audit,
            "config.show": lambda params: {"file": self._file, "values": asdict(self.config)},
        }

    def identity(self) -> tuple[str, str]:
        """See ``Backend``."""
        return VERSION, self._peer_id

    async def call(
        self, method: str, params: dict[str, Any], caller: Caller, passed: Passed | None = None
    ) -> dict[str, Any]:
        """See ``Backend``."""
        entry = METHODS[method]
        if self.moving:
            self.moving.check(method)
        if read := self._reads.get(method):
            result = read(params)
        elif method == "net.check" and self._check_network:
            result = await self._check_network(params_from_json(entry, params))
        elif method in ("identity.export", "identity.import") and self.moving:
            result = await self.moving.call(method, params_from_json(entry, params), passed)
        elif passed is not None:
            with self.descriptors.lend(passed) as number:
                given = {**params_from_json(entry, params), "descriptor": number}
                result = await self._driver.request(method, given)
        else:
            result = await self._driver.request(method, params_from_json(entry, params))
        if method == "keys.rotate":
            if self.link_keys is not None:
                self.link_keys.renew_certificate()
            result = {**result, "certificate": self._certificate()}
        return fields_to_json(entry.result, result)

    def watch(self, method: str, params: dict[str, Any], caller: Caller, watcher: Watcher) -> dict[str, Any]:
        """See ``Backend``."""
        if method not in self._watchers:
            raise ControlError(Code.METHOD_NOT_FOUND, f"{method} is no subscription.")
        result: dict[str, Any] = {}
        view = self._view()
        if method == EVENTS:
            snapshot = {"status": to_json("status", self.status(view)), "peers": to_json("[peer]", self.peers(view))}
            watcher.post("snapshot", snapshot)
        else:
            for message in view.messages:
                watcher.post("message", {"message": to_json("message", message)})
            result = {"unread": len(view.messages)}
        self._watchers[method].append(watcher)
        return result

    def unwatch(self, watcher: Watcher) -> None:
        """See ``Backend``."""
        self._watchers[watcher.method].remove(watcher)

    def observe(self, command: Notify | DeliverMessage, now: Now) -> None:
        """Tell the watchers. Never waits: a slow one loses its subscription, not the daemon its time."""
        watchers = self._watchers[EVENTS if isinstance(command, Notify) else MESSAGES]
        if not watchers:
            return
        if isinstance(command, Notify):
            notice = "event"
            fields = {
                "name": command.name,
                "time": to_json("time", now.unix),
                "fields": redaction.shown(dict(command.fields)),
            }
        else:
            notice, fields = "message", {"message": to_json("message", command.message)}
        for watcher in watchers:
            watcher.post(notice, fields)

    def status(self, view: NodeView | None = None) -> dict[str, Any]:
        """All fields of ``node.status``, in the core's values."""
        status = (view or self._view()).status
        now = self._clocks()
        shell = {
            "version": VERSION,
            "protocol": PROTOCOL,
            "started_at": self._started.unix,
            "uptime": round(now.mono - self._started.mono, 3),
        }
        if self.moving and self.moving.warnings:
            status = {**status, "warnings": [*status["warnings"], *self.moving.warnings]}
        return {**status, **shell, "counters": {**status.get("counters", {}), **self._counters()}}

    def peers(self, view: NodeView | None = None) -> list[dict[str, Any]]:
        """All fields of ``peers.list``, in the core's values."""
        return with_traffic((view or self._view()).peers, self._links())

    def metrics(self) -> str:
        """The page for Prometheus."""
        view = self._view()
        status = self.status(view)
        core = {**status, "counters": view.status["counters"]}
        return metrics.page(core, self.peers(view), self._counters(), read_usage(), self._store_size())

    def _certificate(self) -> dict[str, Any] | None:
        if self.link_keys is None:
            return None
        fingerprint, age = self.link_keys.certificate()
        return {"fingerprint": fingerprint, "made_at": self._clocks().unix - age}

    def _audit(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._view().audit(params_from_json(METHODS["capabilities.audit"], params))

    def _messages(self, params: dict[str, Any]) -> dict[str, Any]:
        messages = self._view().messages
        listed: list[dict[str, Any]] = []
        size = 0
        for message in messages[: params["limit"]]:
            size += len(message["body"])
            if listed and size > MAX_LISTED_SIZE:
                break
            listed.append(message)
        return {"messages": listed, "unread": len(messages)}
