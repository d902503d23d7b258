"""The daemon's core above links of the bench: nodes of no mesh, which say hello and then only that they live.

Core, driver and port are the daemon's own; what else a daemon does for its mesh (records, once a minute) is not here.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from random import Random
from typing import get_args

import structlog

from meshd.config import Config, PushConfig
from meshd.core.events import LinkConnected
from meshd.core.node import Node
from meshd.crypto.identity import public_of
from meshd.crypto.suite import RealSuite
from meshd.daemon.driver import Driver
from meshd.ids import MeshId, SessionId
from meshd.links.port import LinkCommand, LinkPort

_MESH = MeshId(bytes(32))
OFFERER = 0


def _seed(number: int) -> bytes:
    """Of who offers, or of who is at the other end of that link."""
    return hashlib.sha256(b"bench %d" % number).digest()


def node_above(port: LinkPort, links: Iterable[LinkConnected], *, offers: bool) -> tuple[Node, Driver]:
    """A node whose links these are; ``Driver.run`` is to be started, and ``deliver`` gets what comes on them."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the bench reads the other stream
    links = list(links)
    own = OFFERER if offers else links[0].link
    node = Node(Config(push=PushConfig(services=())), RealSuite(_seed(own), _seed(own)), Random(own))
    driver = Driver(node)
    driver.attach(port.submit, *get_args(LinkCommand))
    for connected in links:
        peer = public_of(_seed(connected.link if offers else OFFERER))
        node.neighbors.add(connected.link, peer, SessionId(connected.link.to_bytes(8, "big")), _MESH)
        driver.deliver(connected)
    return node, driver
