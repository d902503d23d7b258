"""Writes the list of log lines from the tables that define them: ``python -m meshd.daemon.document_log``.

Run in the project's top directory; tests compare the file, and look for lines that the tables do not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meshd.core.notifications import NOTIFICATIONS, Notification

FILE = "docs/logging.md"

DAEMON_LINES: Mapping[str, Notification] = {
    "daemon_started": Notification(
        ("version", "peer", "state_dir", "socket", "config"), "info", "Ready; `peer` is this node's own id."
    ),
    "daemon_stopping": Notification(("signal",), "info", "Told to stop; saying goodbye."),
    "daemon_stopped": Notification((), "info", "The last line of a clean end."),
    "start_refused": Notification(("reason",), "critical", "The configuration or control socket cannot be used."),
    "daemon_failed": Notification(
        ("reason", "exception"), "critical", "The state directory cannot be used, or a bug; the daemon ends."
    ),
    "core_failed": Notification(
        ("error", "exception"), "critical", "A bug in the core or a port. The daemon ends; systemd starts it again."
    ),
    "metrics_unavailable": Notification(
        ("port", "reason"), "error", "`[control] metrics_port` cannot be had; the daemon goes on without that page."
    ),
    "metrics_failed": Notification(("error", "exception"), "error", "The page could not be made: a bug of ours."),
    "reloaded": Notification(
        ("changed", "needs_restart"), "info", "SIGHUP: keys now in force, and keys that wait for a restart."
    ),
    "recording": Notification(
        ("file",),
        "warning",
        "`--record`: keys, tokens and messages are being written to that file. For debugging only.",
    ),
    "own_certificate_refused": Notification(
        ("reason",), "error", "SIGHUP, but the certificate of our own push service cannot be used; the old one is kept."
    ),
    "reload_refused": Notification(("reason",), "error", "SIGHUP, but the file has a mistake; the old one is kept."),
    "slow_handling": Notification(("kind", "seconds"), "warning", "One event held up everything else this long."),
    "link_fault": Notification(("link", "error", "exception"), "error", "Something inside a link broke; it is closed."),
    "stray_failure": Notification(("text", "exception"), "error", "A callback of asyncio failed. A bug."),
    "library_message": Notification(("library", "text", "exception"), "as theirs", "A library's own log line."),
    "control_accept_failed": Notification(("error",), "warning", "Out of file descriptors; trying again."),
    "control_call_failed": Notification(
        ("method", "error", "exception"), "error", "A request failed by a bug of ours; its caller was told."
    ),
    "control_connection_failed": Notification(
        ("error", "exception"), "error", "A control connection ended by a bug of ours."
    ),
    "port_mapping": Notification(
        ("external", "routers"), "info", "What routers let in for links now, and how each of them does, in a sentence."
    ),
    "notify_failed": Notification(("error",), "warning", "systemd could not be told something."),
    "event": Notification(("kind", "detail"), "debug", "Each event that the core is given."),
    "command": Notification(("kind", "detail"), "debug", "Each command that the core gives."),
}

_HEAD = """\
# Log lines

<!-- Made by `python -m meshd.daemon.document_log` from `meshd/core/notifications.py` and that module; change those. -->

One line for each thing, on standard error: JSON where standard error is no terminal (`[log] format`), with a priority
for the journal. `time` (RFC 3339, UTC), `level` and `event` stand in every line, then the fields below. `suppressed`
in a line says how many of the same name were left out before it: no peer can flood the log.

Ids are base32, as on the control socket. Other bytes show as a hash and their size. Secrets never show: tokens, keys,
JWTs, message bodies, paths of push endpoints.

    journalctl -u meshd -o cat | jq -r 'select(.event == "link_down") | [.time, .name, .reason] | @tsv'
"""


def document() -> str:
    """The text of ``docs/logging.md``."""
    return "\n".join(
        (
            _HEAD,
            "## What happens in the mesh\n",
            "The same names and fields come as `event` notifications of `events.subscribe` (`meshctl events`).\n",
            _table(NOTIFICATIONS),
            "## The daemon itself\n",
            _table(DAEMON_LINES),
        )
    )


def _table(lines: Mapping[str, Notification]) -> str:
    rows = ["| event | level | fields | meaning |", "|---|---|---|---|"]
    for name, line in lines.items():
        fields = ", ".join(f"`{field}`" for field in line.fields)
        rows.append(f"| `{name}` | {line.level} | {fields} | {line.doc} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the file below the current directory."""
    Path(FILE).write_text(document())


if __name__ == "__main__":
    main()
