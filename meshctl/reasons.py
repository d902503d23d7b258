"""Why there is no link, or was none for a while, in words. What is not listed is shown as the daemon names it."""

from __future__ import annotations

_WORDS = {
    "admission_expired": "its admission has ended",
    "bad_description": "it described its end of the link wrongly",
    "closed_by_peer": "it closed the link",
    "connect_timeout": "the link took too long to open",
    "connection_lost": "the connection broke",
    "consent_expired": "nothing came through for 30 s",
    "departed": "it has left the mesh",
    "dtls_failed": "the encrypted handshake failed",
    "fault": "a fault inside the daemon; see the log",
    "hello_forged": "whoever answered could not prove to be it",
    "hello_missing": "whoever answered did not say who it is",
    "ice_failed": "no direct path was found between the two networks",
    "leaving": "one of the two is leaving the mesh",
    "link_limit": "this node has as many links as it may ([links] max_links)",
    "no_answer": "it did not answer",
    "peer_misbehaved": "it broke the rules of the link",
    "peer_restarted": "it started again",
    "push_failed": "it could not be called by push",
    "revoked": "it has been revoked",
    "send_overflow": "it took in too slowly what was sent",
    "silent": "nothing was heard from it any more",
    "stopping": "its daemon was stopped",
    "surplus": "both had more links than they need",
    "timeout": "it did not answer in time",
    "version_unsupported": "it speaks another version of the protocol",
}


def in_words(reason: str) -> str:
    """A sentence without its full stop."""
    words = _WORDS.get(reason.partition(":")[0])
    return f"{words} ({reason})" if words else reason
