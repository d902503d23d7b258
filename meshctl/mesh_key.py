"""The file with the mesh key, as ``meshctl found`` has written it."""

from __future__ import annotations

import argparse

from meshctl.client import RefusedError

KEY_SIZE = 32  # bytes: an Ed25519 seed, RFC 8032 section 5.1.5
MAX_FILE_SIZE = 4096  # bytes; it has one line of 43 characters, and a comment


def configure(parser: argparse.ArgumentParser, doc: str, *, required: bool = False) -> None:
    """The option ``--mesh-key``."""
    parser.add_argument("--mesh-key", metavar="FILE", required=required, help=doc)


def read(path: str) -> str:
    """The key as the control socket wants it. Raises RefusedError: no such file, or no key in it."""
    from meshd.control.encodings import decode_bytes

    try:
        with open(path, encoding="ascii") as file:
            lines = file.read(MAX_FILE_SIZE).splitlines()
    except OSError as error:
        raise _refused(f"The mesh key cannot be read from {path}: {error.strerror}.") from None
    except ValueError:
        lines = []
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    try:
        if len(found) == 1 and len(decode_bytes(found[0])) == KEY_SIZE:
            return found[0]
    except ValueError:
        pass
    raise _refused(f"There is no mesh key in {path}. It is the file that `meshctl found` wrote: MESHNAME.meshkey")


def _refused(text: str) -> RefusedError:
    return RefusedError(0, text, {"symbol": "key_file"})
