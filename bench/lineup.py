"""Who runs in the bench, and why somebody does not."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bench.pairs import Contestant

# Policy
BENCH = Path(__file__).parent
NODE_MODULES = BENCH / "node" / "node_modules"
NEWER_PYTHON = BENCH.parent / ".venv-bench" / "bin" / "python"  # `make bench` makes it where Python >= 3.12 is at hand


def _python(name: str, *options: str, title: str, needs: str = "", python: str = sys.executable) -> Contestant:
    missing = ""
    if needs and subprocess.run([python, "-c", f"import {needs}"], capture_output=True, check=False).returncode:
        missing = f"{needs} is not installed: make bench installs it"
    return Contestant(title, (python, "-m", f"bench.contestants.{name}"), options, missing)


def _node(package: str, title: str) -> Contestant:
    missing = ""
    if shutil.which("node") is None:
        missing = "node is missing: apt install nodejs npm"
    elif not (NODE_MODULES / package).exists():
        missing = f"{package} is not installed: make bench installs it"
    return Contestant(title, ("node", str(BENCH / "contestants" / "channel.mjs"), package), (), missing)


def _cubic() -> Contestant:
    """Some kernels allow another congestion control than their own to root alone."""
    contestant = _python("kernel_tcp", "cubic", title="kernel TCP cubic")
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        except OSError:
            return replace(contestant, missing="this kernel does not allow cubic to this user: be root")
    return contestant


MESHD = _python("meshd_links", title="meshd links")
ENGINE = _python("bare_transport", "bbr", title="meshd.transport alone, no encryption")
MANY = _python("many_links", title="meshd links")
CUBIC = _cubic()
AIORTC = _python("aiortc_channel", "asyncio", title="aiortc on asyncio")
AIORTC_UVLOOP = _python("aiortc_channel", "uvloop", title="aiortc on uvloop")


@functools.cache
def libdatachannels() -> tuple[Contestant, ...]:
    """libdatachannel by all its bindings."""
    title = "libdatachannel (aiolibdatachannel)"
    newer = Contestant(title, (), missing="no Python >= 3.12 at hand")
    if os.access(NEWER_PYTHON, os.X_OK):
        needs = "aiolibdatachannel"
        newer = _python("aiolibdatachannel_channel", title=title, python=str(NEWER_PYTHON), needs=needs)
    return (
        _python("pylibdatachannel_channel", title="libdatachannel (pylibdatachannel)", needs="pylibdatachannel"),
        _node("node-datachannel", "libdatachannel (node-datachannel)"),
        newer,
    )


@functools.cache
def libwebrtc() -> Contestant:
    """libwebrtc by its Node binding."""
    return _node("@roamhq/wrtc", "libwebrtc (@roamhq/wrtc)")
