"""The log: one line for each thing that happens, with fixed names, on standard error.

``time``, ``level`` and ``event`` stand in every line, then the event's own fields (``docs/operations.md`` lists them).
No secret gets past ``redaction``, and no peer can flood the log: each event's name has an allowance.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

from meshd.config import LogConfig
from meshd.daemon import redaction

# Policy
MAX_LINES = 60  # of one event's name in LIMIT_INTERVAL at info and above; a mesh of hundreds coming up stays below
LIMIT_INTERVAL = 10.0  # seconds
MAX_LIMITED_NAMES = 1_000  # names are literals of ours; this is for the day when somebody makes one up at run time

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_SYSLOG = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # sd-daemon(3), SD_ERR and so on
# Their debug lines would show packets and headers, and building them costs more than the work they describe.
# aiortc and aioice are silenced altogether by the links room: what matters of theirs comes as events.
_CHATTY_LIBRARIES = ("asyncio", "hpack", "httpcore", "httpx", "hypercorn", "trio-websocket")

EventDict = MutableMapping[str, Any]


class LineLimit:
    """Drops lines of a name that comes too often; the next one that gets through says how many are missing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # name → start of its interval, lines since then

    def __call__(self, _logger: object, method: str, event: EventDict) -> EventDict:
        """A structlog processor."""
        if method == "debug":
            return event
        name, now = str(event["event"]), self._clock()
        started, count = self._seen.get(name, (now, 0))
        if now - started >= LIMIT_INTERVAL:
            if count > MAX_LINES:
                event["suppressed"] = count - MAX_LINES
            started, count = now, 0
        if len(self._seen) >= MAX_LIMITED_NAMES:
            self._seen.clear()
        self._seen[name] = (started, count + 1)
        if count >= MAX_LINES:
            raise structlog.DropEvent
        return event


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every value as anybody may read it."""
    limits = {"exception": redaction.MAX_TRACEBACK_CHARS}
    return {
        name: redaction.shown(value, name, limit=limits.get(name, redaction.MAX_SHOWN_CHARS))
        for name, value in event.items()
    }


def _stamp(_logger: object, method: str, event: EventDict) -> EventDict:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return {"time": f"{stamp}.{int(now % 1 * 1000):03}Z", "level": method, "event": event.pop("event"), **event}


class _JsonLines:
    """Renders JSON; for the journal with a priority in front, which systemd takes off and files."""

    def __init__(self, journal: bool) -> None:
        self._journal = journal

    def __call__(self, _logger: object, method: str, event: EventDict) -> str:
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
        return f"<{_SYSLOG.get(method, 6)}>{line}" if self._journal else line


class _Sink:
    """Where lines go. One that cannot be written (full disk, closed pipe) is lost; it must not end the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is the journal's socket (systemd.exec(5), $JOURNAL_STREAM: device and inode)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def configure(config: LogConfig, stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Send every log line, those of the libraries included, to ``stream`` (standard error). May be called again."""
    stream = stream or sys.stderr
    environment = os.environ if environment is None else environment
    console = config.format == "console" or (config.format == "auto" and stream.isatty())
    renderer: Callable[[Any, str, EventDict], str]
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty() and "NO_COLOR" not in environment)
    else:
        renderer = _JsonLines(is_journal(stream, environment))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            LineLimit(),
            structlog.processors.format_exc_info,
            _stamp,
            redact,
            _rename_for_console if console else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[config.level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Sink(stream))),
        cache_logger_on_first_use=False,  # a reload changes the level of loggers that exist
    )
    _catch_libraries(config.level)


def _keep(_logger: object, _method: str, event: EventDict) -> EventDict:
    return event


def _rename_for_console(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = event.pop("time")  # what ConsoleRenderer puts first
    return event


class _LibraryHandler(logging.Handler):
    """Libraries' lines become ``library_message`` lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        method = {50: "critical", 40: "error", 30: "warning", 20: "info"}.get(record.levelno // 10 * 10, "debug")
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # their arguments do not fit their format
            message = str(record.msg)
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        log = structlog.get_logger()
        getattr(log, method)("library_message", library=record.name, text=message, exc_info=exc_info)


def _catch_libraries(level: str) -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _LibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler())
    root.setLevel(logging.WARNING)
    for name in _CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else logging.WARNING)
