"""Copies between a byte stream and standard input and output, until both ways are over."""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import threading
from typing import Any

from meshctl import render
from meshctl.client import Client

# Policy
CHUNK_SIZE = 1 << 16  # bytes read or written at a time

_ENDS = {
    "closed_here": "this side stopped before the end",
    "closed_by_peer": "the other side stopped before the end",
    "withdrawn": "the other side has given up",
    "failed_here": "it could not be read or written here",
    "failed_there": "it could not be read or written over there",
    "link_lost": "the link was lost",
    "path_lost": "no way to the other side was found any more",
    "no_route": "there was no way to the other side any more",
    "refused": "those between the two would not relay it any more",
    "busy": "those between the two relay too much already",
    "revoked": "the other side has been revoked",
    "admission_expired": "the other side's admission has ended",
    "leaving": "this node is leaving the mesh",
}


def run(args: argparse.Namespace, client: Client, method: str, params: dict[str, Any], duration: float | None) -> int:
    """Open or take a stream, carry its bytes, say how it ended. 0 if everything has arrived on both sides."""
    _fill_gaps()
    client.connect()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            opened = client.call(method, params, duration, descriptor=theirs.fileno())
        if method == "streams.accept" and not args.json:
            render.note(f"{render.clean(opened['name'])} has opened a stream.")
        _carry(ours)
        ended = client.call("streams.wait", {"stream": opened["stream"]}, None)
    done = ended["reason"] == "done"
    if args.json:
        print(json.dumps(ended), file=sys.stderr)
    elif not done:
        reason = _ENDS.get(ended["reason"], str(ended["reason"]))
        render.note(f"meshctl: The stream broke off: {reason}. What came may not be all.")
    return 0 if done else 1


def _fill_gaps() -> None:
    """Let no socket get the number of a standard stream that was closed when we were started."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def _carry(ours: socket.socket) -> None:
    """Returns when the daemon has closed its end."""
    if os.isatty(0) and not os.isatty(1):
        ours.shutdown(socket.SHUT_WR)  # nobody types into a stream whose other way goes into a file or program
    else:
        # A thread, and one that need not end: reading may last for ever, when the stream is long over.
        threading.Thread(target=_send, args=(ours,), daemon=True).start()
    try:
        while data := ours.recv(CHUNK_SIZE):
            _write(data)
    except ConnectionResetError:
        return
    # Whoever reads our output need not wait for what is still going the other way.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    over = select.poll()
    over.register(ours, 0)  # POLLHUP is always told: it comes when the other end is closed, both ways
    over.poll()


def _send(ours: socket.socket) -> None:
    try:
        while data := _read():
            ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the stream is over; how, the daemon says


def _read() -> bytes:
    try:
        return os.read(0, CHUNK_SIZE)
    except OSError:
        return b""  # closed: then there is no more


def _write(data: bytes) -> None:
    """Raises BrokenPipeError if nobody reads any more."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
