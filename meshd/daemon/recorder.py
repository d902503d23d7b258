"""``--record FILE``: a recording of what the core is told, for debugging (``meshd.recording``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from meshd.errors import ConfigError

if TYPE_CHECKING:
    from meshd.recording import Recorder

_log = structlog.get_logger("recorder")


def open_recorder(file: str, seeds: tuple[bytes, bytes]) -> Recorder | None:
    """None without a file. Raises ConfigError for one that cannot be made, or is there already."""
    if not file:
        return None
    from meshd.recording import Recorder  # whoever does not record need not load it

    try:
        recorder = Recorder(Path(file), *seeds)
    except OSError as error:
        raise ConfigError(f"--record {file}: {error.strerror}; name a file that is not there yet") from None
    _log.warning("recording", file=file)
    return recorder
