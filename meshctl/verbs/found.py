"""Found a mesh with this node as its first member and admin.

The mesh key is written to a file first: it appoints and removes admins, and nothing else. The daemon does not keep it.
Move it to a safe place off this machine. Without it the mesh works on, but a lost admin cannot be replaced.
"""

from __future__ import annotations

import argparse
import os

from meshctl import hostname, mesh_key, render
from meshctl.client import Client, RefusedError

METHODS = ("mesh.found",)
EXAMPLE = """\
meshctl found home --name desk --key-file /media/stick/home.meshkey"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Names, and where the key goes."""
    parser.add_argument("mesh_name", metavar="MESHNAME", help="what to call the mesh")
    parser.add_argument("--name", help="this node's name in it (default: made from the host name)")
    parser.add_argument("--key-file", metavar="FILE", help="where to write the mesh key (default: ./MESHNAME.meshkey)")


def run(args: argparse.Namespace, client: Client) -> int:
    """The key is safe on disk before the daemon hears of it."""
    from meshd.control.encodings import encode_bytes

    name = args.name or hostname.as_name()
    path = args.key_file or _file_name(args.mesh_name)
    client.connect()  # so that no file is left behind when there is no daemon
    key = encode_bytes(os.urandom(mesh_key.KEY_SIZE))
    _store(path, f"# The key of the mesh {args.mesh_name!a}. Keep it in a safe place, off this machine.\n{key}\n")
    try:
        result = client.call("mesh.found", {"mesh_name": args.mesh_name, "name": name, "mesh_key": key})
    except RefusedError:
        os.unlink(path)  # nothing was founded with it
        raise
    if args.json:
        render.document(result)
        return 0
    print(f"Founded {render.clean(result['mesh_name'])}; this node is {render.clean(result['name'])}.")
    render.note(f"The mesh key is in {path}. Move it to a safe place off this machine: whoever has it can make admins.")
    render.note("Invite the next node: meshctl introduce")
    return 0


def _file_name(mesh_name: str) -> str:
    plain = "".join(char if char.isalnum() or char in "-_." else "-" for char in mesh_name).strip(".")
    return f"{plain or 'mesh'}.meshkey"


def _store(path: str, text: str) -> None:
    """A new file for the owner alone, on the disk when this returns. Never overwrites."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise RefusedError(
            0,
            f"{path} is there already and is not overwritten. Choose another with --key-file.",
            {"symbol": "key_file"},
        ) from None
    except OSError as error:
        text = f"The mesh key cannot be written to {path}: {error.strerror}. Choose another with --key-file."
        raise RefusedError(0, text, {"symbol": "key_file"}) from None
