"""Answer an offer that was made with `meshctl offer` on another machine, and pasted here.

If it was made with a token of this node's, this admits its maker to the mesh. What is printed is for `meshctl accept`
over there.
"""

from __future__ import annotations

import argparse

from meshctl import pasting
from meshctl.client import Client

METHODS = ("links.answer",)
EXAMPLE = """\
meshctl answer meshd-offer1_…
meshctl answer - < offer.txt
meshctl answer --from phone '{"type":"offer","sdp":…}' --sdp"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The offer."""
    pasting.configure_input(parser, "offer")
    pasting.configure_output(parser)


def run(args: argparse.Namespace, client: Client) -> int:
    """Print the answer."""
    pasting.check_output(args)
    result = client.call("links.answer", pasting.read(args.text, "offer", args.peer))
    return pasting.show(result, "answer", args, "There: meshctl accept TEXT.")
