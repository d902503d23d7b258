"""What the store had of members when the daemon started. It was verified when it came; nobody else writes there."""

from __future__ import annotations

from meshd.core.membership.revocations import Revocations
from meshd.core.state import Stored
from meshd.crypto.suite import Suite
from meshd.errors import MalformedMessage
from meshd.ids import PeerId
from meshd.wire.record import Record, decode_record


def records_in(stored: Stored, suite: Suite, revocations: Revocations) -> list[Record]:
    """All readable ones, but of those who were revoked in the last moment before the end; ours in any case."""
    found: list[Record] = []
    for data in stored.get("records", {}).values():
        try:
            record = suite.parsed(decode_record, data)
        except MalformedMessage:
            continue
        if record.peer == suite.peer_id or revocations.holds(record.chain):
            found.append(record)
    return found


def number_in(stored: Stored, own: PeerId) -> int:
    """The number of our own record; 0 if there is none."""
    data = stored.get("records", {}).get(own)
    try:
        return 0 if data is None else decode_record(data).number
    except MalformedMessage:
        return 0
