"""Hears from the kernel when an address of this machine comes or goes (rtnetlink(7), RFC 3549)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Specification (linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h)
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
IFA_ADDRESS, IFA_LOCAL = 1, 2
_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")
_ALIGNMENT = 4
_SIZES = {socket.AF_INET: 4, socket.AF_INET6: 16}

# Policy
READ_SIZE = 65_536
MAX_READS = 16  # in one wake-up; what is lost by that is only how many changes there were


@dataclass(frozen=True, slots=True)
class AddressChange:
    """An address of an interface is there now, or is gone. It also comes when only the address's state has changed."""

    address: str
    interface: int
    present: bool


def address_changes(data: bytes) -> Iterator[AddressChange]:
    """The changes in what one read gave. What is cut off or of no interest is passed over: the kernel is trusted."""
    position = 0
    while position + _MESSAGE.size <= len(data):
        length, kind, _, _, _ = _MESSAGE.unpack_from(data, position)
        if length < _MESSAGE.size or position + length > len(data):
            return
        body = data[position + _MESSAGE.size : position + length]
        if kind in (RTM_NEWADDR, RTM_DELADDR) and len(body) >= _ADDRESS.size:
            family, _, _, _, interface = _ADDRESS.unpack_from(body)
            address = _address_in(body[_ADDRESS.size :], _SIZES.get(family, 0))
            if address is not None:
                yield AddressChange(address, interface, kind == RTM_NEWADDR)
        position += _aligned(length)


def _address_in(attributes: bytes, size: int) -> str | None:
    found: dict[int, bytes] = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, position)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = attributes[position + _ATTRIBUTE.size : position + length]
        position += _aligned(length)
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)  # on a point-to-point interface the second is the peer's
    return str(ipaddress.ip_address(packed)) if packed is not None and size and len(packed) == size else None


def _aligned(length: int) -> int:
    return (length + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


class AddressWatch:
    """Calls ``on_change`` when addresses have come or gone. Raises OSError where netlink may not be used."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hear no more."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        changed = False
        for _ in range(MAX_READS):
            try:
                data = self._socket.recv(READ_SIZE)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: more came than was read, so something has changed
                changed = True
                continue
            changed = changed or any(True for _ in address_changes(data))
        if changed:
            self._on_change()
