"""Write the completion of meshctl for a shell to standard output."""

from __future__ import annotations

import argparse
import sys

EXAMPLE = """\
source <(meshctl completion bash)
meshctl completion zsh > ~/.zfunc/_meshctl
meshctl completion fish > ~/.config/fish/completions/meshctl.fish"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", metavar="bash|zsh|fish", choices=["bash", "zsh", "fish"])


def run(args: argparse.Namespace) -> int:
    """Made from the verbs and their arguments, so it cannot fall behind."""
    from meshctl import completion

    sys.stdout.write(completion.script(args.shell))
    return 0
