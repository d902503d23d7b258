"""A call that was pasted: who makes it is shown, the person at the terminal vouches for it, and it is answered."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from meshctl import arguments, durations, render
from meshctl.client import Client

MARK = "meshd-call1_"
WAIT = 150.0  # seconds for the link, or the reason why there is none; the daemon itself gives up before


def is_call(text: str) -> bool:
    """Whether that was made by a caller, a web page for instance: a text of ours, or JSON."""
    return MARK in "".join(text.split()) or text.lstrip().startswith("{")


def run(args: argparse.Namespace, client: Client, text: str) -> int:
    """Show who calls, ask, answer."""
    params: dict[str, Any] = {"text": text, "name": args.name}
    shown = client.call("calls.answer", {**params, "preview": True})
    name, mesh, peer_id = (render.clean(shown[field]) for field in ("name", "mesh_name", "peer_id"))
    services = ", ".join(map(render.clean, shown["services"]))
    if shown["admits"] and not args.yes:
        if not sys.stdin.isatty() or args.json:
            raise arguments.UsageError(f"{peer_id} wants to be admitted to {mesh} as {name}. If it may: --yes")
        render.note(f"{peer_id} wants to be admitted to {mesh} as {name}, and answered through {services}.")
        if not render.confirmed("Do you know that it is yours?"):
            render.note("Not answered.")
            return 1
    if not args.json:
        render.note(f"Answering {name} through {services} …")
    result = client.call("calls.answer", params, WAIT)
    if args.json:
        render.document(result)
        return 0
    name, elapsed = render.clean(result["name"]), durations.show(result["elapsed"])
    done = f"Admitted {name} to {mesh}" if result["admits"] else f"Answered {name}"
    print(f"{done}; linked after {elapsed}.")
    return 0
