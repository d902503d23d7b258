"""Reads the command line of one verb. Wrong use ends with status 2 and one sentence that says what was meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from meshctl import durations
from meshctl.table import VERBS


class UsageError(Exception):
    """The command line makes no sense. Exit status 2."""


class VerbParser(argparse.ArgumentParser):
    """argparse that raises instead of exiting, and remembers its arguments for the completion."""

    def __init__(self, verb: str, module: ModuleType) -> None:
        self.added: list[argparse.Action] = []
        self._module = module
        super().__init__(
            prog=f"meshctl {verb}",
            description=(module.__doc__ or "").strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def format_help(self) -> str:
        """As in argparse; examples and fields are put together only now, since that loads the table of methods."""
        self.epilog = _epilog(self._module)
        return super().format_help()

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As in argparse."""
        action = super().add_argument(*names, **options)
        self.added.append(action)
        return action

    def error(self, message: str) -> NoReturn:
        """Raises UsageError; a misspelt option gets a suggestion."""
        hint = ""
        if "unrecognized arguments: -" in message:
            wrong = message.rpartition(": ")[2].split()[0].partition("=")[0]
            known = [name for action in self.added for name in action.option_strings]
            hint = suggestion(wrong, known)
        raise UsageError(f"{message}.{hint} See: {self.prog} --help")


def parser_for(verb: str, module: ModuleType) -> VerbParser:
    """The parser of one verb, with the options that all have."""
    parser = VerbParser(verb, module)
    module.configure(parser)
    if hasattr(module, "METHODS"):
        parser.add_argument("--json", action="store_true", help="print JSON, one document or one object a line")
        parser.add_argument("--socket", metavar="PATH", help="the daemon's control socket")
    return parser


def parse(verb: str, module: ModuleType, words: Sequence[str]) -> argparse.Namespace:
    """Raises UsageError, and SystemExit after printing help. Options may stand anywhere, also between the words."""
    return parser_for(verb, module).parse_intermixed_args(words)


def duration(text: str) -> float:
    """For argparse's ``type``: seconds."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment(text: str) -> str:
    """For argparse's ``type``: a time of the past, as ``2d`` (ago) or as date and time by the clock on the wall.

    Gives it as the control socket wants it.
    """
    try:
        return durations.moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """For argparse's ``type``: a whole number from 1."""
    if text.isdecimal() and 1 <= len(text) <= 9 and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")


def suggestion(word: str, words: Sequence[str] | dict[str, str] = VERBS) -> str:
    """`` Did you mean …?`` with the nearest of ``words``, or nothing."""
    import difflib

    nearest = difflib.get_close_matches(word[:64], list(words), 1)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def _epilog(module: ModuleType) -> str:
    """Examples, and what ``--json`` prints: taken from the table of control methods."""
    lines = ["Examples:" if "\n" in module.EXAMPLE else "Example:"]
    lines += [f"  {line}" for line in module.EXAMPLE.splitlines()]
    if hasattr(module, "METHODS"):
        from meshd.control.methods import METHODS
        from meshd.control.shapes import SHAPES

        method = METHODS[module.METHODS[0]]
        lines += ["", f"With --json: {getattr(module, 'JSON', f'the result of {method.name}, one document')}"]
        for field in () if hasattr(module, "JSON") else method.result:
            lines.append(f"  {field.name}: {field.kind}. {field.doc}")
            inner = SHAPES.get(field.kind.strip("[]?"), ())
            lines += [f"    {part.name}: {part.kind}. {part.doc}" for part in inner]
        lines.append("Errors go to standard error, then as one JSON object. More in docs/control-api.md.")
    return "\n".join(lines)
