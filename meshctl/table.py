"""The verbs of meshctl and one line on each: what ``meshctl help`` shows, without loading them."""

from __future__ import annotations

VERBS: dict[str, str] = {
    "status": "how this node and its mesh are",
    "peers": "the other members, and how they are reached",
    "graph": "draw the mesh: SVG, DOT or JSON",
    "send": "send a message to a member",
    "listen": "show messages as they come",
    "inbox": "show unread messages and mark them read",
    "outbox": "messages of ours that nobody has acknowledged yet, and who keeps them",
    "connect": "open a byte stream to a member: standard input there, what comes to standard output",
    "accept": "take the answer to an offer, or a byte stream that a member opens",
    "introduce": "make, list and revoke introduction tokens",
    "join": "join a mesh with an introduction token",
    "offer": "offer a link by copy and paste, to a member or to join",
    "answer": "answer an offer that was pasted here",
    "found": "found a new mesh",
    "leave": "leave the mesh",
    "rename": "give this node, or another, a new name",
    "revoke": "revoke a member for good: a stolen laptop",
    "revocations": "what has been revoked in this mesh",
    "admin": "list, appoint and remove admins, with the mesh key",
    "capabilities": "who can push to this node until when, and whom it can push to",
    "push": "test this node's push services, or make its subscriptions anew",
    "ping": "measure the way to a member",
    "trace": "show the way to a member hop by hop, with times",
    "netcheck": "what this machine's network lets through",
    "keys": "show this node's keys, or make new ones",
    "identity": "write this node to a file, to keep or to move it, or take one in",
    "events": "watch what happens",
    "metrics": "all counters and measures, for Prometheus",
    "config": "show the daemon's configuration",
    "version": "what runs here",
    "completion": "write the completion for bash, zsh or fish",
}

LOCAL_VERBS = frozenset({"completion"})  # these need no daemon
