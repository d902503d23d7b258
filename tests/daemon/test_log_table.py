"""Every line of the daemon's log is documented, and every documented one is written somewhere."""

import re
from pathlib import Path

from meshd.core.notifications import NOTIFICATIONS
from meshd.daemon import redaction
from meshd.daemon.document_log import DAEMON_LINES, FILE, document

ROOT = Path(__file__).parents[2]
_LINE = re.compile(r"_log\.(debug|info|warning|error|critical)\(\s*\"([a-z_]+)\"|\(\"(library_message)\"")


def written_lines() -> set[str]:
    files = [path for room in ("daemon", "control", "links") for path in (ROOT / "meshd" / room).glob("*.py")]
    files += (ROOT / "meshd").glob("*.py")
    found = (_LINE.findall(path.read_text()) for path in files)
    return {name or other for lines in found for _, name, other in lines}


def test_document_is_up_to_date() -> None:
    assert (ROOT / FILE).read_text() == document(), "run python -m meshd.daemon.document_log"


def test_table_and_source_agree() -> None:
    assert written_lines() == set(DAEMON_LINES)


def test_no_documented_field_is_taken_for_a_secret() -> None:
    fields = {field for line in (*NOTIFICATIONS.values(), *DAEMON_LINES.values()) for field in line.fields}
    assert [field for field in sorted(fields) if redaction.shown("plain", field) != "plain"] == []
