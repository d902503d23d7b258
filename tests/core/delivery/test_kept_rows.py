"""Whatever is put and dropped, in whatever order: what a keeper knows at once is what counting all of it would give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.delivery.kept_rows import KeptRows, key_of, message_of, recipient_of, sender_of
from meshd.core.state import KeptMessageRow
from meshd.ids import PeerId

PEERS = [PeerId(bytes([number]) * 32) for number in range(3)]
MESSAGES = [bytes([number]) * 16 for number in range(3)]
keys = st.builds(key_of, st.sampled_from(PEERS), st.sampled_from(PEERS), st.sampled_from(MESSAGES))
kept = st.builds(
    KeptMessageRow,
    issued=st.integers(0, 9),
    expires=st.integers(0, 9),
    sealed=st.binary(min_size=1, max_size=9),
    receipt=st.integers(0, 1),
)


@given(st.dictionaries(keys, kept), st.lists(st.tuples(keys, kept | st.none())))
def test_the_accounts_are_right(
    stored: dict[bytes, KeptMessageRow], changes: list[tuple[bytes, KeptMessageRow]]
) -> None:
    rows, plain = KeptRows(stored), dict(stored)
    for key, row in changes:
        if row is not None:
            rows.put(key, row)
            plain[key] = row
        else:
            assert rows.drop(key) == (plain.pop(key, None) is not None)
    assert len(rows) == rows.total.count == len(plain)
    assert {key: rows.get(key) for key in rows} == plain
    assert rows.total.size == sum(len(row.sealed) for row in plain.values())
    for peer in PEERS:
        sent = [row for key, row in plain.items() if sender_of(key) == peer]
        came = [row for key, row in plain.items() if recipient_of(key) == peer]
        wanted = {key for key, row in plain.items() if (sender_of if row.receipt else recipient_of)(key) == peer}
        assert (rows.sent_by(peer).count, rows.sent_by(peer).size) == (len(sent), sum(len(r.sealed) for r in sent))
        assert (rows.sent_to(peer).count, rows.sent_to(peer).size) == (len(came), sum(len(r.sealed) for r in came))
        assert set(rows.keys_for(peer)) == wanted
        assert (peer in rows.addressees()) == bool(wanted)
    assert all(key_of(sender_of(key), recipient_of(key), message_of(key)) == key for key in plain)


def test_the_oldest_is_given_first_also_after_a_restart() -> None:
    stored = {
        key_of(PEERS[0], PEERS[1], message): KeptMessageRow(issued, 9, b"sealed")
        for message, issued in zip(MESSAGES, (5, 3, 4), strict=True)
    }
    assert [message_of(key) for key in KeptRows(stored).keys_for(PEERS[1])] == [MESSAGES[1], MESSAGES[2], MESSAGES[0]]


def test_a_row_of_another_form_is_left_out() -> None:
    assert len(KeptRows({b"short": KeptMessageRow(1, 2, b"sealed")})) == 0
