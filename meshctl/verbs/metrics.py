"""All counters and measures of the daemon, in the text format of Prometheus.

For node_exporter's textfile collector, or to have a look; [control] metrics_port lets Prometheus ask by itself.
"""

from __future__ import annotations

import argparse

from meshctl import render
from meshctl.client import Client

METHODS = ("node.metrics",)
EXAMPLE = """\
meshctl metrics | grep meshd_link_round_trip_seconds"""


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, and print."""
    result = client.call("node.metrics", {})
    if args.json:
        render.document(result)
    else:
        print(render.clean_text(result["text"]), end="")
    return 0
