"""What is asked of which router and when, and what of the answers may be advertised. Pure: the time comes in.

For each router: a probe by every protocol at once; then a request by the best one that answered (PCP, NAT-PMP, IGD),
by the next where that is refused; then a renewal at half life. In between, checks notice a router that has restarted
and forgotten. Where nothing helps it is tried again later and later.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from meshd.portmap.values import METHODS, Found, Gateway, Grant, MethodName, PortMapping, Refusal
from meshd.special_addresses import forbidden_by

# Specification
MIN_RETRY_INTERVAL = 4.0  # seconds between tries of a renewal; RFC 6887 section 11.2.1

# Policy
LEASE_LIFETIME = 1_800.0  # seconds asked for; what is open when a daemon was killed closes within half an hour
MIN_LIFETIME = 120.0  # seconds; a router that grants less is renewed as if it had granted this, and has gaps
CHECK_INTERVAL = 120.0  # seconds: how long a restarted router without an announcement keeps peers out; one datagram
FIRST_RETRY_INTERVAL = 60.0  # seconds until a router that granted nothing is asked again; doubled each time
MAX_RETRY_INTERVAL = 3_600.0  # an hour: somebody may turn it on in the router's menu
MAX_GATEWAYS = 8  # asked at one time, both families together
ANNOUNCEMENT_INTERVAL = 10.0  # seconds between announcements that are heeded: anybody in the network can forge them
JUST_STARTED = 5  # of a router's seconds; an announcement so young is about a restart, whatever the arithmetic says

Trouble: TypeAlias = Literal["double_nat", "carrier_nat", "not_public"]


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask whether the router speaks this protocol; answer with ``probed``."""

    gateway: Gateway
    method: MethodName


@dataclass(frozen=True, slots=True)
class Check:
    """Ask whether the grant stands; answer with ``checked``."""

    gateway: Gateway
    method: MethodName
    grant: Grant


@dataclass(frozen=True, slots=True)
class Request:
    """Ask to be let in, or for a renewal; answer with ``requested``."""

    gateway: Gateway
    method: MethodName
    port: int
    wanted: tuple[str, int] | None
    lifetime: float


@dataclass(frozen=True, slots=True)
class Release:
    """Take the grant back. There is no answer."""

    gateway: Gateway
    method: MethodName
    grant: Grant


Action: TypeAlias = Probe | Check | Request | Release


@dataclass(frozen=True, slots=True)
class RouterReport:
    """How one router does. ``external`` is what it granted, or the address outside that it named, with port 0.

    ``trouble`` says why that is not advertised. ``answers`` has, for each protocol, ``yes`` or why not; none before
    the first answer. ``is_settled``: it is known how this ends, until it is asked again.
    """

    gateway: Gateway
    method: MethodName | None
    external: tuple[str, int] | None
    trouble: Trouble | None
    answers: Mapping[MethodName, str]
    is_settled: bool


class Routers:
    """Which routers there are and what they grant. ``take_actions`` after every call. Times are monotonic seconds.

    ``allow_documentation`` takes the addresses of RFC 5737 and RFC 3849 for public ones: for laboratories.
    """

    def __init__(self, *, allow_documentation: bool = False) -> None:
        self._allow_documentation = allow_documentation
        self._routers: dict[Gateway, _Router] = {}
        self._actions: list[Action] = []

    def take_actions(self) -> list[Action]:
        """What is to be done now."""
        actions = list(self._actions)
        self._actions.clear()  # the routers add to this very list
        return actions

    def mappings(self) -> tuple[PortMapping, ...]:
        """What may be advertised."""
        return tuple(mapping for router in self._routers.values() if (mapping := router.mapping()))

    def reports(self) -> tuple[RouterReport, ...]:
        """How every router does."""
        return tuple(router.report() for router in self._routers.values())

    def next_deadline(self) -> float | None:
        """When ``handle_timer`` wants to be called."""
        return min((router.deadline for router in self._routers.values() if router.deadline is not None), default=None)

    def set_routers(self, ports: Mapping[Gateway, int], now: float) -> None:
        """The routers there are, and the UDP port of links that each is to map. The same again changes nothing.

        A router that has gone is forgotten: there is no way to it any more, and its leases are short. Where our own
        address is public there is nothing to map, and the router is a provider's that nobody at home may ask.
        """
        wanted = [gateway for gateway, port in ports.items() if port and _is_worth_asking(gateway)][:MAX_GATEWAYS]
        for gateway in [known for known in self._routers if known not in wanted]:
            del self._routers[gateway]
        for gateway in wanted:
            router = self._routers.get(gateway)
            if router is not None and router.port != ports[gateway]:
                router.release()
                router = None
            if router is None:
                router = _Router(gateway, ports[gateway], self._actions, self._allow_documentation)
                self._routers[gateway] = router
                router.begin(now)

    def probed(self, gateway: Gateway, method: MethodName, answer: Found | Refusal, now: float) -> None:
        """The answer to ``Probe``."""
        if router := self._routers.get(gateway):
            router.probed(method, answer, now)

    def checked(self, gateway: Gateway, grant: Grant, answer: Found | Refusal, now: float) -> None:
        """The answer to ``Check``."""
        router = self._routers.get(gateway)
        if router and router.grant is grant:
            router.checked(answer, now)

    def requested(self, gateway: Gateway, method: MethodName, port: int, answer: Grant | Refusal, now: float) -> None:
        """The answer to ``Request``. One that nobody waits for any more is taken back."""
        router = self._routers.get(gateway)
        if router and router.port == port and router.is_requesting(method):
            router.requested(answer, now)
        elif isinstance(answer, Grant):
            self._actions.append(Release(gateway, method, answer))

    def announced(self, source: str, epoch: int, now: float) -> None:
        """A router says to all that it is there, as it does after a restart."""
        for router in self._routers.values():
            if router.gateway.address == source:
                router.announced(epoch, now)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for router in self._routers.values():
            if router.deadline is not None and router.deadline <= now:
                router.handle_timer(now)

    def stop(self) -> None:
        """Take everything back; then this is empty."""
        for router in self._routers.values():
            router.release()
        self._routers.clear()


class _Router:
    """One router, and one port of ours."""

    def __init__(self, gateway: Gateway, port: int, actions: list[Action], allow_documentation: bool) -> None:
        self.gateway = gateway
        self.port = port
        self.grant: Grant | None = None
        self.deadline: float | None = None
        self._actions = actions
        self._allow_documentation = allow_documentation
        self._methods: tuple[MethodName, ...] = ("pcp",) if gateway.is_ipv6 else METHODS
        self._answers: dict[MethodName, Found | Refusal] = {}
        self._method: MethodName | None = None  # that is asked, or has granted
        self._is_requesting = False
        self._external: tuple[str, int] | None = None
        self._trouble: Trouble | None = None
        self._expires = 0.0
        self._renewal = 0.0
        self._clock = _Epoch()
        self._failures = 0
        self._heeded = -ANNOUNCEMENT_INTERVAL  # when an announcement last was

    def is_requesting(self, method: MethodName) -> bool:
        """Whether an answer to a request by this protocol is awaited."""
        return self._is_requesting and self._method == method

    def mapping(self) -> PortMapping | None:
        """What may be advertised."""
        if self.grant is None or self._method is None:
            return None
        internal = (self.gateway.local_address, self.port)
        return PortMapping(self._method, self.gateway.address, internal, self.grant.external)

    def report(self) -> RouterReport:
        """See ``RouterReport``."""
        answers = {m: a.reason if isinstance(a, Refusal) else "yes" for m, a in self._answers.items()}
        method = self._method if self.grant or self._trouble else None
        is_settled = self.grant is not None or self._failures > 0
        return RouterReport(self.gateway, method, self._external, self._trouble, answers, is_settled)

    def begin(self, now: float) -> None:
        """Ask by every protocol whether it is spoken."""
        self._answers.clear()
        self._method, self._is_requesting, self.deadline = None, False, None
        self._actions.extend(Probe(self.gateway, method) for method in self._methods)

    def release(self) -> None:
        """Take back what was granted."""
        if self.grant is not None and self._method is not None:
            self._actions.append(Release(self.gateway, self._method, self.grant))
        self.grant = None

    def probed(self, method: MethodName, answer: Found | Refusal, now: float) -> None:
        """Go on with the best protocol, as soon as it is known to be the best."""
        if method in self._answers or method not in self._methods:
            return
        self._answers[method] = answer
        if self._method is None:
            self._choose(now)

    def _choose(self, now: float) -> None:
        for method in self._methods:
            answer = self._answers.get(method)
            if answer is None:
                return  # a better one than those that have answered may still do so
            if isinstance(answer, Found):
                if answer.external_address and (trouble := self._judge(answer.external_address)):
                    self._method = method
                    self._give_up(now, (answer.external_address, 0), trouble)
                    return
                self._request(method)
                return
        self._give_up(now)

    def _request(self, method: MethodName) -> None:
        self._method, self._is_requesting, self.deadline = method, True, None
        wanted = self._external if self._external and self._external[1] else None
        self._actions.append(Request(self.gateway, method, self.port, wanted, LEASE_LIFETIME))

    def requested(self, answer: Grant | Refusal, now: float) -> None:
        """A grant, or the next protocol, or in a renewal the next try."""
        assert self._method is not None
        self._is_requesting = False
        if isinstance(answer, Grant):
            self._granted(self._method, answer, now)
        elif self.grant is not None and now < self._expires:
            left = self._expires - now
            self._renewal = self.deadline = now + max(left / 2, min(MIN_RETRY_INTERVAL, left))
        else:
            self.grant = None
            self._answers[self._method] = answer
            self._method = None
            self._choose(now)

    def _granted(self, method: MethodName, grant: Grant, now: float) -> None:
        self._answers.setdefault(method, Found(grant.external[0], grant.epoch))
        if trouble := self._judge(grant.external[0]):
            self._actions.append(Release(self.gateway, method, grant))
            self._give_up(now, grant.external, trouble)
            return
        self.grant, self._external, self._trouble, self._failures = grant, grant.external, None, 0
        self._clock.set(grant.epoch, now)
        granted = LEASE_LIFETIME if grant.lifetime is None else grant.lifetime
        lifetime = max(MIN_LIFETIME, min(granted, LEASE_LIFETIME))
        self._expires = now + lifetime
        self._renewal = now + lifetime / 2
        self.deadline = min(self._renewal, now + CHECK_INTERVAL)

    def checked(self, answer: Found | Refusal, now: float) -> None:
        """Renew at once what was lost, or may have been; else go on."""
        assert self.grant is not None
        if self._is_requesting:
            return
        moved = isinstance(answer, Found) and answer.external_address not in (None, self.grant.external[0])
        if isinstance(answer, Refusal) or answer.is_lost or moved or not self._clock.agrees(answer.epoch, now):
            self._renew()
            return
        self._clock.set(answer.epoch, now)
        self.deadline = min(self._renewal, now + CHECK_INTERVAL)

    def _renew(self) -> None:
        assert self._method is not None
        self._request(self._method)

    def announced(self, epoch: int, now: float) -> None:
        """It has restarted, if its seconds do not fit; then what it granted is gone. Or it has just learned to."""
        if now - self._heeded < ANNOUNCEMENT_INTERVAL or self._is_requesting:
            return
        if self.grant is not None and (epoch < JUST_STARTED or not self._clock.agrees(epoch, now)):
            self._heeded = now
            self._renew()
        elif self.grant is None and self.deadline is not None:
            self._heeded = now
            self.begin(now)

    def handle_timer(self, now: float) -> None:
        """Renew, check, or ask everything again."""
        self.deadline = None
        if self.grant is None or self._method is None:
            self.begin(now)
        elif now >= self._renewal:
            self._renew()
        else:
            self._actions.append(Check(self.gateway, self._method, self.grant))

    def _give_up(self, now: float, external: tuple[str, int] | None = None, trouble: Trouble | None = None) -> None:
        self.grant, self._external, self._trouble, self._is_requesting = None, external, trouble, False
        waits = [answer.retry_after for answer in self._answers.values() if isinstance(answer, Refusal)]
        interval = min(FIRST_RETRY_INTERVAL * 2.0 ** min(self._failures, 16), MAX_RETRY_INTERVAL)
        self._failures += 1
        self.deadline = now + min(max([interval, *waits]), MAX_RETRY_INTERVAL)

    def _judge(self, external: str) -> Trouble | None:
        """Why an address may not be advertised: peers could not reach it, or it is not this network's at all."""
        rule = forbidden_by(ipaddress.ip_address(external))
        if rule is None or (rule == "documentation" and self._allow_documentation):
            return None
        return "carrier_nat" if rule == "cgnat" else "double_nat" if rule in ("private", "link_local") else "not_public"


def _is_worth_asking(gateway: Gateway) -> bool:
    rule = forbidden_by(ipaddress.ip_address(gateway.local_address))
    if gateway.is_ipv6:  # a firewall that is to open, if it is about an address that peers can reach
        return rule in (None, "documentation")
    return rule is not None


class _Epoch:
    """A router's seconds since it lost its state, against our clock (RFC 6887 section 8.5)."""

    def __init__(self) -> None:
        self._seen: tuple[int, float] | None = None  # its seconds, ours

    def set(self, epoch: int | None, now: float) -> None:
        """It said this, and we believe it."""
        self._seen = None if epoch is None else (epoch, now)

    def agrees(self, epoch: int | None, now: float) -> bool:
        """Whether it can be the same run of the same router; without numbers there is no knowing."""
        if epoch is None or self._seen is None:
            return True
        before, then = self._seen
        if epoch < before - 1:
            return False
        ours, theirs = now - then, epoch - before
        return ours + 2 >= theirs - theirs / 16 and theirs + 2 >= ours - ours / 16
