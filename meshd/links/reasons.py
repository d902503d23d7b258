"""Why a link ended, as ``LinkClosed`` says it."""

from __future__ import annotations

# What ended an association; all others are ``closed_by_peer``
_OF_ASSOCIATION = {"timeout": "peer_silent", "handshake_timeout": "connect_timeout"}


class LinkFailed(Exception):
    """The link cannot come to be; the argument is the reason."""


def reason_of_association(reason: str) -> str:
    """The reason of a link whose association was closed for that one."""
    return _OF_ASSOCIATION.get(reason, "closed_by_peer")
