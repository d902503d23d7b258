"""Small files that are there whole or not at all, whatever happens when, and are found again after a power cut."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_file(path: Path, content: str | bytes, *, replace: bool = False) -> None:
    """Write a file (0600), its name included, to the disk; over another only if told to. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        temporary.unlink()  # of a start that was interrupted; nothing can have used it
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(descriptor)
    if replace:
        temporary.rename(path)
    else:
        os.link(temporary, path)  # unlike a rename, this fails if somebody else has made it
        temporary.unlink()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the names in it on the disk: what was made, renamed or removed there. Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
