"""Makes the kernel of this network namespace forget all flows, as ``conntrack -F`` does."""

from __future__ import annotations

import socket
import struct

NETLINK_NETFILTER = 12
CTNETLINK_DELETE = 1 << 8 | 2  # linux/nfnetlink_conntrack.h; without any attribute: all
REQUEST_ACK = 0x1 | 0x4
FAMILIES = (socket.AF_INET, socket.AF_INET6)

for family in FAMILIES:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        body = struct.pack("=BBH", family, 0, 0)
        netlink.send(struct.pack("=IHHII", 16 + len(body), CTNETLINK_DELETE, REQUEST_ACK, 1, 0) + body)
        error = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
        if error:
            raise OSError(-error, "flows cannot be forgotten")
