"""Who may do what: the kernel says who is calling (SO_PEERCRED), groups of this machine say what that one may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

import trio

from meshd.control.methods import ADMIN, PERMISSIONS, READ, WRITE

# Specification
_UCRED = struct.Struct("=iII")  # pid, uid, gid: unix(7), SO_PEERCRED


@dataclass(frozen=True, slots=True)
class Access:
    """Groups by name or number. One that does not exist has no members.

    Root and the daemon's own user are always admins. Everybody else who can open the socket may read.
    """

    admin_group: str = "meshd"
    write_group: str = ""


def allows(have: str, need: str) -> bool:
    """Whether a permission includes another."""
    return PERMISSIONS.index(have) >= PERMISSIONS.index(need)


def credentials_of(stream: trio.SocketStream) -> tuple[int, int, int]:
    """pid, uid and gid of the process at the other end, as they were when it connected."""
    raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return pid, uid, gid


def is_trusted(uid: int) -> bool:
    """Whether a user is an admin without a look at the groups."""
    return uid in (0, os.geteuid())


def permission_of(uid: int, gid: int, access: Access) -> str:
    """The highest permission of a user. ``gid`` is the calling process's group (``sg``, ``newgrp`` set it).

    May block on the user database (LDAP and the like).
    """
    if is_trusted(uid):
        return ADMIN
    groups = _groups_of(uid, gid)
    if group_id_of(access.admin_group) in groups:
        return ADMIN
    return WRITE if group_id_of(access.write_group) in groups else READ


def _groups_of(uid: int, gid: int) -> set[int]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a user of a container or a sandbox: it has the group it came with
        return {gid}
    return {gid, *os.getgrouplist(entry.pw_name, entry.pw_gid)}


def group_id_of(group: str) -> int | None:
    """The number of a group given by name or number; None if there is none."""
    if not group:
        return None
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        return None
