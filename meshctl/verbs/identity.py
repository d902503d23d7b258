"""Write this node to a file, encrypted with a passphrase: its identity, its place in the mesh, keys, unread messages.

As a backup it must never run beside the node itself. With --move the daemon here stops for good; on the other machine,
whose daemon must not belong to a mesh yet, `identity import` and a restart make it that node.
"""

from __future__ import annotations

import argparse
import os

from meshctl import arguments, render
from meshctl.client import Client, RefusedError

METHODS = ("identity.export", "identity.import")
EXAMPLE = """\
meshctl identity export --move /media/stick/laptop.meshid
meshctl identity import /media/stick/laptop.meshid
meshctl identity export --passphrase-file passphrase.txt laptop.meshid"""

MAX_DURATION = 120.0  # seconds that the daemon may take with a large state
MAX_LINE_SIZE = 4096  # characters of the file with the passphrase: more than the daemon takes


def configure(parser: argparse.ArgumentParser) -> None:
    """Which way, and the file."""
    parser.add_argument("action", metavar="export|import", choices=["export", "import"])
    parser.add_argument("file", metavar="FILE", help="a new file, or the one to take in")
    parser.add_argument("--move", action="store_true", help="export: the node moves away, and this daemon stops")
    parser.add_argument(
        "--passphrase-file", metavar="PATH", help="a file with the passphrase in its first line (default: ask for it)"
    )


def run(args: argparse.Namespace, client: Client) -> int:
    """The daemon reads and writes the file by a descriptor, so it needs no right to it."""
    exports = args.action == "export"
    if args.move and not exports:
        raise arguments.UsageError("--move goes with `identity export`")
    client.connect()
    passphrase = _passphrase(args.passphrase_file, twice=exports)
    params = {"passphrase": passphrase} | ({"move": args.move} if exports else {})
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL if exports else os.O_RDONLY
    try:
        descriptor = os.open(args.file, flags | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _refusal(f"{args.file} is there already and is not overwritten. Choose another name.") from None
    except OSError as error:
        raise _refusal(f"{args.file}: {error.strerror}.") from None
    try:
        result = client.call(f"identity.{args.action}", params, MAX_DURATION, descriptor=descriptor)
    except BaseException as error:
        if args.move and not isinstance(error, RefusedError):
            render.note(f"The node may have moved into {args.file} all the same: see whether it starts here.")
        elif exports:
            os.unlink(args.file)  # it is not whole
        raise
    finally:
        os.close(descriptor)
    if args.json:
        render.document(result)
    elif not exports:
        print(f"This daemon will be {result['peer_id']} when it starts again: systemctl restart meshd")
        render.note("The former one must not run any more. Then remove the file, or keep it as you keep a key.")
    elif args.move:
        print(f"{result['peer_id']} is in {args.file}, and this daemon has stopped.")
        render.note(f"On the other machine: meshctl identity import {args.file}")
    else:
        print(f"{result['peer_id']} is in {args.file}.")
        render.note("It is a backup: never run it beside this one. To move the node, use --move.")
    return 0


def _passphrase(path: str | None, *, twice: bool) -> str:
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                return file.readline(MAX_LINE_SIZE).rstrip("\r\n")
        except OSError as error:
            raise _refusal(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError:  # whose text shows a piece of what is in the file
            raise _refusal(f"{path} cannot be read: it is not text in UTF-8.") from None
    import warnings
    from getpass import GetPassWarning, getpass

    warnings.simplefilter("error", GetPassWarning)  # nobody's terminal to show it on, or one that would
    try:
        given = getpass("Passphrase: ")
        if twice and getpass("Again: ") != given:
            raise _refusal("The two are not the same.")
    except (EOFError, GetPassWarning):
        raise _refusal("There is nobody to ask for a passphrase: use --passphrase-file.") from None
    return given


def _refusal(text: str) -> RefusedError:
    return RefusedError(0, text, {"symbol": "identity_file"})
