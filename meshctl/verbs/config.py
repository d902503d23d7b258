"""Show the configuration that the daemon runs with, defaults filled in and secrets left out."""

from __future__ import annotations

import argparse
import json

from meshctl import render
from meshctl.client import Client

METHODS = ("config.show",)
EXAMPLE = """\
meshctl config show"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Only to show."""
    parser.add_argument("action", metavar="show", nargs="?", choices=["show"], default="show")


def run(args: argparse.Namespace, client: Client) -> int:
    """As TOML, or near enough to read."""
    result = client.call("config.show", {})
    if args.json:
        render.document(result)
        return 0
    print(f"# {render.clean(result['file'] or 'no file; all defaults')}")
    for section, values in result["values"].items():
        print(f"\n{render.painted(f'[{render.clean(section)}]', 'bold')}")
        for key, value in values.items():
            print(f"{render.clean(key)} = {json.dumps(value)}")
    return 0
