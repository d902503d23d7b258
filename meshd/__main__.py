"""``meshd``: the command line of the daemon."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

from meshd import VERSION
from meshd.config import Config, resolve
from meshd.config_file import find_file, read_file
from meshd.config_toml import parse
from meshd.errors import ConfigError

DEFAULT_FILE = Path("/etc/meshd/meshd.toml")
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("auto", "json", "console")

_EPILOG = """\
Without a configuration file, meshd runs with its defaults. Every key is explained in meshd.toml beside the units, and
in docs/configuration.md.

examples:
  meshd --state-dir ~/.local/state/meshd --socket ~/.local/state/meshd.sock --log console
  meshd --check-config --config /etc/meshd/meshd.toml
  meshctl --socket ~/.local/state/meshd.sock status         # in another terminal

exit status: 0 stopped as asked, 1 failure, 2 wrong command line or configuration
"""


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run until a signal says stop. Ends the process with the documented exit status."""
    given = _parser().parse_args(arguments)
    try:
        file = find_file(given.config, os.environ, DEFAULT_FILE)
        config = read_config(given, file)
    except ConfigError as error:
        print(f"meshd: {error}", file=sys.stderr)
        sys.exit(2)
    if given.check_config:
        print(f"{file}: good" if file else "no configuration file: the defaults are in force")
        sys.exit(0)
    from meshd.daemon import lifecycle  # 0.5 s of imports that the options above can do without

    setup = lifecycle.Setup(
        config, str(file) if file else None, lambda: read_config(given, file), os.environ, given.record
    )
    sys.exit(lifecycle.run(setup))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshd",
        description="A mesh for your machines with no server of your own: the daemon. meshctl controls it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"configuration (default: $CONFIGURATION_DIRECTORY/meshd.toml, {DEFAULT_FILE}, if it is there)",
    )
    parser.add_argument("--state-dir", metavar="DIR", help="where identity and membership are kept ([node] state_dir)")
    parser.add_argument("--socket", metavar="PATH", help="the control socket ([control] socket)")
    parser.add_argument(
        "--log",
        metavar="WORD",
        action="append",
        choices=_LEVELS + _FORMATS,
        default=[],
        help=f"a level ({', '.join(_LEVELS)}) or a format ({', '.join(_FORMATS)}); may be given twice ([log])",
    )
    parser.add_argument(
        "--record",
        metavar="FILE",
        default="",
        help="for debugging only: write all that the core is told to a new file, this node's keys and every message "
        "included; `python -m meshd.sim replay FILE` plays it again",
    )
    parser.add_argument("--check-config", action="store_true", help="say whether the configuration is good, and exit")
    parser.add_argument("--version", action="version", version=f"meshd {VERSION}")
    return parser


def read_config(given: argparse.Namespace, file: Path | None) -> Config:
    """The file, then what the command line says, then the machine's defaults. Raises ConfigError."""
    config = parse(read_file(file), str(file)) if file else Config()
    overrides = [("node", "state_dir", given.state_dir), ("control", "socket", given.socket)]
    overrides += [("log", "level" if word in _LEVELS else "format", word) for word in given.log]
    for section, key, value in overrides:
        if value is not None:
            absolute = value if section == "log" else os.path.abspath(value)
            changed = replace(getattr(config, section), **{key: absolute})
            config = replace(config, **{section: changed})
    return resolve(config, os.environ, socket.gethostname())


if __name__ == "__main__":
    main()
