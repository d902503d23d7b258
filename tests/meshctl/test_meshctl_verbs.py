"""Every verb, for people and for programs."""

import json
import os
import re
import stat
import subprocess
import time

import pytest
from fake_values import DESK_ID, EVIL_TEXT, PATH, TOKEN, message, outgoing, peer

from meshctl.table import LOCAL_VERBS, VERBS
from meshd.control.encodings import decode_bytes, encode_time
from meshd.control.methods import MAX_BODY_SIZE, METHODS
from meshd.control.parameters import problem_in
from meshd.ids import text_of

UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

CALLS = {
    "status": ("node.status", []),
    "peers": ("peers.list", []),
    "graph": ("mesh.graph", []),
    "graph dot": ("mesh.graph", ["-T", "dot"]),
    "metrics": ("node.metrics", []),
    "send": ("messages.send", ["desk", "hello"]),
    "inbox": ("messages.list", ["--keep"]),
    "outbox": ("messages.outbox", []),
    "introduce": ("introductions.mint", []),
    "introduce list": ("introductions.list", ["list"]),
    "introduce revoke": ("introductions.revoke", ["revoke", "aaaa"]),
    "capabilities": ("capabilities.list", []),
    "capabilities audit": ("capabilities.audit", ["--audit", "desk", "--since", "7d", "--kind", "used"]),
    "push": ("push.test", ["test"]),
    "push renew": ("push.renew", ["renew", "desk"]),
    "join": ("mesh.join", ["mesh1token"]),
    "join call": ("calls.answer", ["--yes", "meshd-call1_abc"]),
    "offer": ("links.offer", ["--peer", "desk"]),
    "offer for": ("links.offer", ["--for", "meshd1_token"]),
    "answer": ("links.answer", ["meshd-offer1_abc"]),
    "accept": ("links.accept", ["meshd-answer1_abc"]),
    "leave": ("mesh.leave", []),
    "rename": ("node.rename", ["desk2"]),
    "revoke": ("members.revoke", ["desk"]),
    "revoke all": ("members.revoke", ["desk", "--all", "--yes"]),
    "revocations": ("revocations.list", []),
    "admin": ("admins.list", []),
    "ping": ("peers.ping", ["desk"]),
    "trace": ("peers.trace", ["desk", "-q", "2"]),
    "netcheck": ("net.check", ["--server", "192.0.2.7:3478", "--timeout", "1s"]),
    "keys": ("keys.show", []),
    "keys rotate": ("keys.rotate", ["rotate"]),
    "config": ("config.show", ["show"]),
    "version": ("node.version", []),
}


@pytest.mark.parametrize("name", CALLS)
def test_json_is_the_result_of_the_method(daemon, name):
    method, words = CALLS[name]
    ended = daemon.run("--json", name.split()[0], *words)
    assert (ended.status, ended.err) == (0, "")
    assert problem_in(METHODS[method].result, json.loads(ended.out)) == ""


@pytest.mark.parametrize("name", CALLS)
def test_piped_output_is_plain_and_harmless(daemon, name):
    daemon.env["PYTHONUTF8"] = "1"
    ended = daemon.run(name.split()[0], *CALLS[name][1])
    assert ended.status == 0
    assert ended.out
    assert not UNSAFE.search(ended.out + ended.err)


def test_there_is_a_test_for_every_verb():
    elsewhere = {"identity", "listen", "events", "found", "connect", "accept"}
    assert {name.split()[0] for name in CALLS} | elsewhere | LOCAL_VERBS == set(VERBS)


def test_a_node_is_written_to_a_new_file_and_taken_in(daemon, tmp_path):
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    asked = ["--passphrase-file", str(tmp_path / "passphrase")]
    path = tmp_path / "laptop.meshid"
    ended = daemon.run("identity", "export", *asked, str(path))
    assert (ended.status, path.read_bytes()) == (0, b"sealed")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "never run it beside" in ended.err
    assert daemon.run("identity", "export", *asked, str(path)).status == 1
    assert "has stopped" in daemon.run("identity", "export", "--move", *asked, str(tmp_path / "other")).out
    ended = daemon.run("identity", "import", *asked, str(path))
    assert (ended.status, "restart meshd" in ended.out) == (0, True)
    assert daemon.run("identity", "import", *asked, str(tmp_path / "missing")).status == 1
    assert daemon.run("identity", "import", "--move", *asked, str(path)).status == 2
    (tmp_path / "passphrase").write_text("short\n")
    assert daemon.run("identity", "export", *asked, str(tmp_path / "third")).status != 0
    assert not (tmp_path / "third").exists(), "what is not whole is not left behind"
    assert daemon.backend.calls[-1][1]["passphrase"] == "correct horse battery"


def test_status_without_a_mesh_says_what_to_do(daemon):
    daemon.backend.state = "no_mesh"
    assert "meshctl join" in daemon.run("status").out


def test_peers_is_an_aligned_table(daemon):
    daemon.backend.peers += [
        peer(bytes(32), "attic", "none", via=[], reachable=False, last_error="ice_failed"),
        peer(bytes(32), "a-name-that-is-as-long-as-it-may", path={**PATH, "kind": "relay"}),
    ]
    lines = daemon.run("peers").out.splitlines()
    head, desk, other, why, attic, why_attic, long = lines
    cells = {name: head.index(name) for name in head.split()}
    assert desk.startswith("desk *")
    assert desk[cells["LINK"] :].startswith("host-srflx ")
    assert desk[cells["RTT"] :].startswith("12ms ")
    assert desk[cells["LOSS"] :].startswith("2% ")
    assert desk[cells["RECV/s"] :].startswith("1.2M ")
    assert desk[cells["SEND/s"] :].startswith("300k ")
    assert desk[cells["QUEUED"] :].startswith("16k ")
    assert other[cells["LINK"] :].startswith("via desk ")
    assert other.startswith("xy ")
    assert why.strip().endswith("ago: nopath")
    assert attic[cells["LINK"] :].startswith("unreachable ")
    assert "no direct path" in why_attic
    assert long[cells["LINK"] :].startswith("relay candidate ")
    assert max(map(len, lines)) <= 80


def test_peers_in_detail(daemon):
    out = daemon.run("peers", "-v").out
    assert "host 127.0.0.1:4000 to srflx 127.0.0.1:5000, up " in out
    assert "12.3 ms by heartbeats, 12.1 ms by packets, at best 11 ms; 2% of heartbeats lost" in out
    assert "91 MB in 81,233 packets, now 300 kB/s; 312 lost, 340 sent again" in out
    assert "1.2 GB in 212,222 packets, now 1.2 MB/s" in out
    assert "16 kB, window 262 kB, packets of 1,191 bytes" in out
    assert "ago: nopath" in out
    assert "via desk" in out
    assert out == daemon.run("peers", "--details").out
    assert max(map(len, out.splitlines())) <= 110


def test_no_peers_is_said_beside_the_output(daemon):
    daemon.backend.peers = []
    ended = daemon.run("peers")
    assert (ended.status, ended.out) == (0, "")
    assert "meshctl introduce" in ended.err


def test_names_for_completion_hold_nothing_a_shell_would_expand(daemon):
    daemon.backend.peers[1]["name"] = "$(reboot)"
    names = daemon.run("peers", "--names").out.split()
    assert names == ["desk", daemon.backend.peers[1]["short_id"]]


def sent(daemon):
    name, params, _ = daemon.backend.calls[-1]
    assert name == "messages.send"
    return params


def test_send_takes_words(daemon):
    ended = daemon.run("send", "desk", "hello", "there", "--application", "chat")
    assert "desk has it" in ended.out
    assert decode_bytes(sent(daemon)["body"]) == b"hello there"
    assert sent(daemon)["application"] == "chat"


@pytest.mark.parametrize("words", [[], ["-"]])
def test_send_takes_standard_input_byte_for_byte(daemon, words):
    body = bytes(range(256)) + b"\r\n"
    assert daemon.run("send", "desk", *words, stdin=body).status == 0
    assert decode_bytes(sent(daemon)["body"]) == body


def test_send_takes_an_argument_that_is_no_text(daemon):
    assert daemon.run("send", "desk", b"\xff\xfe").status == 0
    assert decode_bytes(sent(daemon)["body"]) == b"\xff\xfe"


def test_send_has_a_limit(daemon):
    assert daemon.run("send", "desk", stdin=bytes(MAX_BODY_SIZE)).status == 0
    ended = daemon.run("send", "desk", stdin=bytes(MAX_BODY_SIZE + 1))
    assert ended.status == 1
    assert "65,536" in ended.err


def test_send_need_not_wait(daemon):
    assert daemon.run("send", "desk", "x", "--no-wait", "--timeout", "1.5m").out == "Queued for desk.\n"
    assert (sent(daemon)["until"], sent(daemon)["timeout"]) == ("queued", 90)
    assert daemon.run("send", "desk", "--no-wait", "words", "behind an option").out == "Queued for desk.\n"
    assert decode_bytes(sent(daemon)["body"]) == b"words behind an option"


def test_send_says_who_keeps_it_for_one_that_is_away(daemon):
    daemon.backend.away = True
    ended = daemon.run("send", "desk", "x")
    assert ended.out == "desk is away: attic and nas keep it.\n"
    assert ended.status == 0
    assert sent(daemon)["until"] == "deposited"
    assert json.loads(daemon.run("send", "desk", "x", "--json").out)["state"] == "deposited"


def test_send_can_wait_for_the_member_itself(daemon):
    assert "has it" in daemon.run("send", "desk", "x", "--wait", "acknowledged").out
    assert sent(daemon)["until"] == "acknowledged"
    assert daemon.run("send", "desk", "x", "--wait", "read").status == 2


def test_the_outbox_shows_what_waits_and_where(daemon):
    times = {
        "sent_at": encode_time(time.time() - 7200),
        "expires_at": encode_time(time.time() + 3 * 86_400),
    }
    daemon.backend.outbox = [
        outgoing("d\x1b[2Jesk", "deposited", "nas", "attic") | times,
        outgoing("desk", "queued") | times,
    ]
    lines = daemon.run("outbox").out.splitlines()
    assert lines[0].split() == ["TO", "STATE", "SENT", "SIZE", "GIVEN", "UP", "IN", "KEPT", "BY"]
    assert lines[1].split() == ["desk", "deposited", "2h", "2.0", "kB", "3d", "nas,", "attic"]
    assert lines[2].split() == ["desk", "queued", "2h", "2.0", "kB", "3d", "-"]
    assert json.loads(daemon.run("outbox", "--json").out)["messages"][1]["state"] == "queued"
    daemon.backend.outbox = []
    assert "have been acknowledged" in daemon.run("outbox").err


def test_status_says_what_is_kept_for_others(daemon):
    assert "kept for others" not in daemon.run("status").out
    daemon.backend.kept = {"messages": 3, "size": 5000}
    assert "3 kept for others" in daemon.run("status").out


@pytest.mark.parametrize(("peer", "says"), [("nobody", "No member"), ("d", "desk and den")])
def test_an_unknown_or_ambiguous_peer_is_an_error(daemon, peer, says):
    ended = daemon.run("send", peer, "x")
    assert (ended.status, ended.out) == (1, "")
    assert says in ended.err


def test_inbox_shows_and_marks_read(daemon):
    assert "hello" in daemon.run("inbox", "--keep").out
    shown = daemon.run("inbox").out
    assert shown.splitlines()[0] == "2023-11-14 22:13:20 desk: hello"
    assert "    second line" in shown.splitlines()  # indented: no body can pass for another message
    assert daemon.backend.inbox == []
    assert "no unread" in daemon.run("inbox").err


def test_inbox_goes_on_until_it_is_empty(daemon):
    daemon.backend.inbox = [message(n, b"m%d" % n) for n in range(7)]
    daemon.backend.batch = 3
    shown = daemon.run("inbox").out.splitlines()
    assert [line.rpartition(" ")[2] for line in shown] == [f"m{n}" for n in range(7)]
    assert daemon.backend.inbox == []


def test_inbox_that_nobody_reads_stays_unread(daemon):
    daemon.backend.inbox = [message(n, b"x" * 60_000) for n in range(3)]
    reading, writing = os.pipe()
    with daemon.start("inbox", stdout=writing) as process:
        os.close(writing)
        os.read(reading, 10)
        os.close(reading)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (141, b"")
    assert len(daemon.backend.inbox) == 3


def test_listen_begins_with_the_unread_ones_and_marks_each(daemon):
    ended = daemon.run("listen", "--count", "2")
    assert ended.status == 0
    assert ended.out.splitlines()[0].endswith("desk: hello")
    assert daemon.backend.inbox == []


def test_listen_json_is_one_message_a_line(daemon):
    lines = daemon.run("listen", "--count", "2", "--json").out.splitlines()
    assert [decode_bytes(json.loads(line)["body"]) for line in lines] == [b"hello", EVIL_TEXT.encode()]
    assert all(line.isascii() for line in lines)


def test_listen_goes_on_until_interrupted_quietly(daemon):
    with daemon.start("listen") as process:
        assert b"hello" in process.stdout.readline()
        process.send_signal(2)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")


def test_events_json_is_one_notification_a_line(daemon):
    daemon.backend.state = "eventful"
    with daemon.start("events", "--json") as process:
        notices = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.terminate()
        process.communicate(timeout=20)
    assert [(notice["notice"], notice["seq"]) for notice in notices] == [("snapshot", 0), ("event", 1)]


def test_events_for_people(daemon):
    daemon.backend.state = "eventful"
    with daemon.start("events") as process:
        line = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=20)
    assert line == b"22:13:20.000 link_up peer=desk\n"


def test_introduce_prints_the_token_alone(daemon):
    ended = daemon.run("introduce", "--lifetime", "2h", "--uses", "3", "--label", "x y")
    assert ended.out == TOKEN + "\n"
    assert "Warning: No IPv6." in ended.err
    assert daemon.backend.calls[-1][1] == {"lifetime": 7200, "uses": 3, "label": "x y", "by_hand": False}


def test_introduce_says_until_when_for_clocks_there_too(daemon):
    for zone, shown in (
        ("UTC", r"until \d{4}-\d\d-\d\d [0-9:]{8} UTC\."),
        ("<+05>-5", r"until [-0-9]{10} [0-9:]{8} \([-0-9: ]+ UTC\)"),
    ):
        daemon.env["TZ"] = zone
        assert re.search(shown, daemon.run("introduce").err)


@pytest.mark.parametrize("verb", ["admin", "revocations"])
def test_without_a_mesh_nothing_is_said_about_one(daemon, verb):
    daemon.backend.state = "no_mesh"
    assert daemon.run(verb).err == "This node belongs to no mesh yet.\n"


@pytest.mark.parametrize("words", [["revoke"], ["list", "aaaa"], ["borrow"], ["--lifetime", "soon"], ["--uses", "0"]])
def test_introduce_refuses_nonsense(daemon, words):
    assert daemon.run("introduce", *words).status == 2
    assert daemon.backend.calls == []


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        ([TOKEN], b""),
        ([f'"{TOKEN[:50]}\n{TOKEN[50:]}"'], b""),
        ([TOKEN[:50], TOKEN[50:]], b""),
        (["-"], b"  '" + TOKEN[:80].encode() + b"\r\n\t" + TOKEN[80:].encode() + b"'\n\n"),
        ([], TOKEN.encode()),
    ],
)
def test_join_takes_a_token_as_it_was_pasted(daemon, words, stdin):
    ended = daemon.run("join", *words, "--name", "box", stdin=stdin)
    assert ended.status == 0
    assert daemon.backend.calls[-1][1]["token"] == TOKEN
    assert "Joined home as box, introduced by desk." in ended.out
    assert "1 push sent, 1 received" in ended.out
    assert "push sent" in ended.err  # the event, as progress
    assert "Warning: Behind a symmetric NAT." in ended.err


def test_join_says_what_is_wrong_with_a_token(daemon):
    ended = daemon.run("join", "bad")
    assert ended.status == 1
    assert "cut off" in ended.err
    assert daemon.run("join", stdin=b" \n").status == 2


def test_found_stores_the_key_first(daemon, tmp_path):
    ended = daemon.run("found", "home", "--name", "desk", cwd=tmp_path)
    assert ended.status == 0
    assert "Founded home" in ended.out
    file = tmp_path / "home.meshkey"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().splitlines()[-1] == daemon.backend.calls[-1][1]["mesh_key"]
    assert "off this machine" in ended.err
    again = daemon.run("found", "home", cwd=tmp_path)
    assert again.status == 1
    assert "not overwritten" in again.err
    assert len(daemon.backend.calls) == 1


def test_found_leaves_no_key_of_a_mesh_that_is_not(daemon, tmp_path):
    assert daemon.run("found", "taken", "--key-file", str(tmp_path / "k")).status == 1
    assert not (tmp_path / "k").exists()
    assert daemon.run("found", "../up/and/away", "--key-file", str(tmp_path / "no" / "k")).status == 1


def test_found_json(daemon, tmp_path):
    ended = daemon.run("found", "home", "--json", "--key-file", str(tmp_path / "k"))
    assert problem_in(METHODS["mesh.found"].result, json.loads(ended.out)) == ""


def test_rename_another(daemon):
    assert daemon.run("rename", "den", "--peer", "desk").out == "desk is now den.\n"
    assert daemon.backend.calls[-1][1] == {"name": "den", "peer": "desk"}


def test_ping_names_the_relays(daemon):
    assert daemon.run("ping", text_of(DESK_ID)[:8]).out == "desk: 4.2 ms via relay1\n"


def test_what_is_written_to_a_dead_pipe_ends_quietly(daemon):
    daemon.backend.peers *= 2_000
    pipeline = subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pipeline, daemon.start("peers", stdout=pipeline.stdin) as process:
        pipeline.stdin.close()
        _, err = process.communicate(timeout=20)
        assert pipeline.stdout.read().startswith(b"NAME")
    assert (process.returncode, err) == (141, b"")


def test_capabilities_say_who_can_push_here_and_whom_we_can_push_to(daemon):
    out = daemon.run("capabilities").out
    assert "can push to this node" in out
    assert "member, newcomer" in out
    assert "this node can push to" in out


@pytest.mark.parametrize("words", [["desk"], ["--since", "7d"], ["--kind", "used"], ["--limit", "3"]])
def test_what_narrows_the_audit_trail_goes_with_it(daemon, words):
    ended = daemon.run("capabilities", *words)
    assert ended.status == 2
    assert "--audit" in ended.err


def test_the_audit_trail_says_what_why_and_whose(daemon):
    out = daemon.run("capabilities", "--audit").out
    assert "taken back" in out
    assert "replaced" in out
    assert "everybody" in out
    assert len(daemon.run("capabilities", "--audit", "--limit", "1").out.splitlines()) == 2


def test_a_push_test_shows_each_service(daemon):
    ended = daemon.run("push", "test")
    assert ended.status == 0
    assert "newcomers" in ended.out
    assert "not delivered" in ended.out
    assert daemon.run("push", "test", "desk").status == 2


def test_renewing_says_for_whom(daemon):
    assert "2 members" in daemon.run("push", "renew").out
    assert "desk" in daemon.run("push", "renew", "desk").out
