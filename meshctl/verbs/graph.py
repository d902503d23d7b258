"""Draw the mesh as this node knows it: who is linked to whom, how, how fast, who is reached over whom, what is down.

Writes an SVG, which every browser shows (light or dark, as the desktop is), or DOT for Graphviz. A picture of up to 24
members shows the mesh as it is; beyond that it shows the ways from this node, with all other links across. From 220
members on, only this node, its neighbors and some that are unreachable are named; all names are in the tooltips.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from meshctl import arguments, render
from meshctl.client import Client, RefusedError

METHODS = ("mesh.graph",)
EXAMPLE = """\
meshctl graph -o mesh.svg && xdg-open mesh.svg
meshctl graph -T dot | neato -Tpdf > mesh.pdf
meshctl graph --json | jq -r '.members[] | select(.state == "unreachable") | .name'"""

_FORMATS = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".json": "json"}


def configure(parser: argparse.ArgumentParser) -> None:
    """What, and where to."""
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there (default: to standard output)")
    parser.add_argument(
        "-T",
        "--format",
        choices=["svg", "dot", "json"],
        help="what to write (default: by the end of FILE's name, else svg)",
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """Ask, draw, write."""
    wanted = args.format or _FORMATS.get(os.path.splitext(args.output or "")[1].lower(), "svg")
    wanted = "json" if args.json else wanted
    if wanted == "svg" and args.output is None and sys.stdout.isatty():
        raise arguments.UsageError("A terminal cannot show a picture. Write it to a file: meshctl graph -o mesh.svg")
    result = client.call("mesh.graph", {})
    if wanted == "json":
        text = json.dumps(result) + "\n"
    else:
        from meshctl.picture import dot, model, svg

        picture = model.picture_of(result)
        text = svg.draw(picture) if wanted == "svg" else dot.write(picture)
    _write(text, args.output)
    return 0


def _write(text: str, path: str | None) -> None:
    """In UTF-8, whatever the terminal's encoding is."""
    data = text.encode()
    if path is None or path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise RefusedError(0, f"{path} cannot be written: {error.strerror}.", {"symbol": "output_file"}) from None
    render.note(f"Drawn into {path}." if path.endswith(".svg") else f"Written to {path}.")
