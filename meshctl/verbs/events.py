"""Watch what happens, as it happens."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from meshctl import render
from meshctl.client import Client

METHODS = ("events.subscribe",)
EXAMPLE = """\
meshctl events
meshctl events --json | jq -r 'select(.notice == "event") | .name'"""
JSON = "one object a line: the notifications of events.subscribe, each with its kind as `notice`"


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, client: Client) -> int:
    """Until interrupted."""
    client.call("events.subscribe", {})
    while True:
        notice = client.notice()
        if args.json:
            render.document({"notice": notice.method, **notice.params})
        elif notice.method == "snapshot":
            status = notice.params["status"]
            render.note(f"{status['state']}: {status['links']} links up, {status['members']} members. Watching …")
        elif notice.method == "event":
            _show(notice.params)
        sys.stdout.flush()


def _show(event: dict[str, Any]) -> None:
    fields = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in event["fields"].items()
    ]
    clock = render.local_time(event["time"], "%H:%M:%S") + event["time"][19:23]
    print(clock, render.painted(render.clean(event["name"]), "bold"), render.clean(" ".join(fields)))
