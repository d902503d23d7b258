"""The node's one long-lived secret: made once, read at every start, never made anew.

A file may have a sealing key beside it, the node's first. Those are renewed and erased, so they live in the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshd.durable_file import write_file
from meshd.errors import StoreError

# Specification
SEED_SIZE = 32  # Ed25519 (RFC 8032 section 5.1.5) and X25519 (RFC 7748 section 5) private keys alike

# Policy
KEY_FILE = "identity.key"
CREDENTIAL = "identity"  # LoadCredential=identity:… in the unit
MAX_KEY_FILE_SIZE = 4_096
HEADER = "# meshd identity, version 1. Secret: whoever has this file is this node."


@dataclass(frozen=True, slots=True)
class IdentityKeys:
    """Seeds of ``SEED_SIZE`` bytes."""

    identity: bytes = field(repr=False)  # Ed25519; the peer id is its public key
    sealing: bytes | None = field(default=None, repr=False)  # X25519: the first sealing key, of a file that has one

    def derived(self, purpose: bytes) -> bytes:
        """32 secret bytes that stay the same as long as the identity; others for each purpose (1 to 64 bytes)."""
        return hashlib.blake2b(purpose, key=self.identity, digest_size=32, person=b"meshd derived").digest()


def load(state_dir: Path, environment: Mapping[str, str]) -> IdentityKeys:
    """The keys from the systemd credential ``identity`` if there is one, else from the state directory.

    Made there at the first start. The directory must have been claimed. Raises StoreError for a file that is mangled,
    readable by others, or cannot be written; it is never touched then.
    """
    credentials = environment.get("CREDENTIALS_DIRECTORY", "")
    if credentials and (found := _read(Path(credentials) / CREDENTIAL, 0o007)):
        return found
    path = state_dir / KEY_FILE
    if found := _read(path):
        return found
    made = IdentityKeys(os.urandom(SEED_SIZE))
    try:
        write_file(path, render(made))
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}): is the disk full?") from None
    return made


def is_given(environment: Mapping[str, str]) -> bool:
    """Whether the identity is a systemd credential."""
    credentials = environment.get("CREDENTIALS_DIRECTORY", "")
    return bool(credentials) and (Path(credentials) / CREDENTIAL).exists()


def forget_sealing(state_dir: Path) -> None:
    """Take the sealing key out of the file of the state directory, if it is there. Raises StoreError.

    The store must have it by then. A credential is not ours to change.
    """
    path = state_dir / KEY_FILE
    found = _read(path)
    if found is not None and found.sealing is not None:
        try:
            write_file(path, render(IdentityKeys(found.identity)), replace=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be written ({error.strerror}): is the disk full?") from None


def render(keys: IdentityKeys) -> str:
    """The file's text."""
    lines = [f"{name} {base64.b64encode(seed).decode()}" for name, seed in _named(keys)]
    return "\n".join([HEADER, *lines, ""])


def parse(text: str) -> IdentityKeys:
    """The inverse of ``render``; comments and blank lines are allowed. Raises ValueError for anything else."""
    seeds: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, encoded = line.partition(" ")
        if name not in ("identity", "sealing") or name in seeds:
            # the line's content is not shown: it may be a secret in the wrong place
            raise ValueError(f"line {number} is neither 'identity …' nor 'sealing …', once each")
        try:
            seeds[name] = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            raise ValueError(f"line {number} is not base64 after {name!r}") from None
        if len(seeds[name]) != SEED_SIZE:
            raise ValueError(f"line {number} has {len(seeds[name])} bytes, not {SEED_SIZE}: it is cut off or too long")
    if "identity" not in seeds:
        raise ValueError("a line is missing: 'identity …' must be there")
    return IdentityKeys(seeds["identity"], seeds.get("sealing"))


def _named(keys: IdentityKeys) -> list[tuple[str, bytes]]:
    sealing = [("sealing", keys.sealing)] if keys.sealing is not None else []
    return [("identity", keys.identity), *sealing]


def _read(path: Path, forbidden_mode: int = 0o077) -> IdentityKeys | None:
    """The keys in a file; None if there is no such file.

    systemd may let the daemon at a credential by an ACL, whose mask then shows as group bits: ``forbidden_mode``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): it must belong to the daemon's user") from None
    with open(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & forbidden_mode:
            raise StoreError(
                f"{path} is readable by others (mode {mode:04o}) and is this node's identity: chmod 600 it"
            )
        raw = file.read(MAX_KEY_FILE_SIZE + 1)
    try:
        if len(raw) > MAX_KEY_FILE_SIZE:
            raise ValueError(f"it is larger than {MAX_KEY_FILE_SIZE} bytes")
        return parse(raw.decode("ascii"))
    except ValueError as error:
        why = "it is not text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise StoreError(
            f"{path} is not an identity of meshd: {why}. Restore it from a backup; or move it away to start as a new "
            "node, which has to join again"
        ) from None
