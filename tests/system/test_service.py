"""The service under a real systemd: installed by `make install`, with its whole sandbox on.

One box serves this file, and the tests run in order: what one does, the next builds on (that is the life of a
machine). The last one takes everything away again.
"""

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from installation import MEMBER, STRANGER, install, make
from sdbox import Box

from meshd.ids import text_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("systemctl", "unshare", "nsenter", "ip", "make", "setpriv"),
    pytest.mark.xdist_group("service"),
]

PUSH = "127.0.0.1:8085"
CONFIG = f"""
[links]
addresses = ["10.77.0.1"]
[push]
services = ["ws://{PUSH}/"]
trusted_origins = ["http://{PUSH}"]
"""
ONE, TWO = "/run/meshd/meshd.sock", "/run/meshd-two/meshd.sock"


def meshctl(box: Box, *arguments: str, at: str = ONE, user: str = MEMBER, check: bool = True) -> Any:
    return box.run("env", f"MESHD_SOCKET={at}", "meshctl", *arguments, user=user, check=check)


def ask(box: Box, *arguments: str, at: str = ONE) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(meshctl(box, *arguments, "--json", at=at).stdout)
    return answer


def main_pid(box: Box, unit: str) -> int:
    return int(box.show(unit, "MainPID")["MainPID"])


def links(box: Box, at: str) -> int:
    return int(ask(box, "status", at=at)["links"])


def both_linked(box: Box) -> bool:
    return links(box, ONE) == 1 and links(box, TWO) == 1


def test_installed_and_active_without_a_mesh(box: Box) -> None:
    shown = box.show("meshd.service", "ActiveState", "StatusText", "User", "NRestarts", "WatchdogUSec")
    assert shown["ActiveState"] == "active"
    assert shown["User"] == "meshd"
    assert shown["NRestarts"] == "0"
    assert shown["WatchdogUSec"] == "20s"
    assert "no mesh" in shown["StatusText"].lower()
    assert box.show("meshd.socket", "ActiveState")["ActiveState"] == "active"
    assert box.run("stat", "-c", "%a %U", "/var/lib/meshd").stdout == "700 meshd\n"
    assert ask(box, "status")["state"] == "no_mesh"


def test_units_verify_without_a_word(box: Box) -> None:
    # systemd 252 exits 0 whatever it finds, so what counts is what it says
    for unit in ("meshd.service", "meshd.socket", "meshd@two.service", "meshd@two.socket", "meshd-push.service"):
        assert box.run("systemd-analyze", "verify", unit).stderr == "", unit


def test_completion_is_installed(box: Box) -> None:
    for path in (
        "/usr/local/share/bash-completion/completions/meshctl",
        "/usr/local/share/zsh/site-functions/_meshctl",
        "/usr/local/share/fish/vendor_completions.d/meshctl.fish",
    ):
        assert "meshctl" in box.run("cat", path).stdout


def test_a_stranger_is_refused_and_told_what_to_do(box: Box) -> None:
    refused = meshctl(box, "status", user=STRANGER, check=False)
    assert refused.returncode == 3
    assert "group" in refused.stderr
    assert "meshd" in refused.stderr


def test_connecting_starts_a_stopped_service(box: Box) -> None:
    box.run("systemctl", "stop", "meshd.service")
    assert box.show("meshd.service", "ActiveState")["ActiveState"] == "inactive"
    assert ask(box, "status")["state"] == "no_mesh"
    assert box.show("meshd.service", "ActiveState")["ActiveState"] == "active"


def test_installing_again_is_the_upgrade(box: Box) -> None:
    identity, before = ask(box, "status")["peer_id"], main_pid(box, "meshd.service")
    box.write("/etc/meshd/meshd.toml", CONFIG)
    install(box)
    assert main_pid(box, "meshd.service") != before
    assert ask(box, "status")["peer_id"] == identity
    assert "10.77.0.1" in box.run("cat", "/etc/meshd/meshd.toml").stdout


def test_a_second_mesh_and_a_push_service_on_the_same_machine(box: Box) -> None:
    box.write("/etc/meshd/two.toml", CONFIG)
    box.run("systemctl", "start", "meshd-push.service", "meshd@two.service")
    for unit in ("meshd-push.service", "meshd@two.service", "meshd@two.socket"):
        assert box.show(unit, "ActiveState")["ActiveState"] == "active"
    assert ask(box, "status", at=TWO)["peer_id"] != ask(box, "status")["peer_id"]
    assert box.run("stat", "-c", "%a %U", "/var/lib/meshd-two").stdout == "700 meshd\n"


def test_found_join_and_link_inside_the_sandbox(box: Box) -> None:
    meshctl(box, "found", "home", "--name", "one", "--key-file", "/tmp/home.meshkey")
    token = ask(box, "introduce")["token"]
    meshctl(box, "join", token, "--name", "two", at=TWO)
    box.wait_for(lambda: both_linked(box), "one and two have a link")
    meshctl(box, "send", "two", "hello")
    assert "hello" in meshctl(box, "inbox", at=TWO).stdout
    box.wait_for(
        lambda: "1 link" in box.show("meshd.service", "StatusText")["StatusText"], "the STATUS line counts the link"
    )


def test_reload_takes_a_new_log_level_and_keeps_the_links(box: Box) -> None:
    before = main_pid(box, "meshd.service")
    box.write("/etc/meshd/meshd.toml", f'{CONFIG}[log]\nlevel = "debug"\n')
    box.run("systemctl", "reload", "meshd.service")
    assert ask(box, "config", "show")["values"]["log"]["level"] == "debug"
    assert main_pid(box, "meshd.service") == before
    assert links(box, ONE) == 1


def test_reload_of_a_wrong_file_fails_and_changes_nothing(box: Box) -> None:
    box.write("/etc/meshd/meshd.toml", CONFIG + '[lgo]\nlevel = "debug"\n')
    assert box.run("systemctl", "reload", "meshd.service", check=False).returncode != 0
    assert links(box, ONE) == 1
    box.write("/etc/meshd/meshd.toml", CONFIG)
    box.run("systemctl", "reload", "meshd.service")


def test_killed_and_back_with_no_new_introduction(box: Box) -> None:
    before = main_pid(box, "meshd.service")
    box.run("systemctl", "kill", "--signal=SIGKILL", "--kill-who=main", "meshd.service")
    box.wait_for(lambda: main_pid(box, "meshd.service") not in (0, before), "systemd has started it again")
    box.wait_for(lambda: both_linked(box), "one and two have a link again", timeout=30)
    meshctl(box, "send", "two", "back again")
    assert "back again" in meshctl(box, "inbox", at=TWO).stdout


def test_hanging_is_noticed_by_the_watchdog(box: Box) -> None:
    box.write("/run/systemd/system/meshd.service.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "meshd.service")
    before = main_pid(box, "meshd.service")
    deadline = time.monotonic() + 5  # two and a half times the watchdog's period: it is answered
    while time.monotonic() < deadline:
        assert main_pid(box, "meshd.service") == before
        time.sleep(0.5)
    box.run("kill", "-STOP", str(before))
    box.wait_for(lambda: main_pid(box, "meshd.service") not in (0, before), "the watchdog has replaced it", timeout=30)
    assert "watchdog" in box.journal("meshd.service").lower()
    box.wait_for(lambda: both_linked(box), "one and two have a link again", timeout=30)
    box.run("rm", "-r", "/run/systemd/system/meshd.service.d")
    box.run("systemctl", "daemon-reload")


def test_stops_cleanly_in_five_seconds(box: Box) -> None:
    began = time.monotonic()
    box.run("systemctl", "stop", "meshd.service")
    assert time.monotonic() - began < 5
    assert box.show("meshd.service", "Result")["Result"] == "success"
    box.wait_for(lambda: links(box, TWO) == 0, "the neighbor has been told")
    box.run("systemctl", "start", "meshd.service")
    box.wait_for(lambda: both_linked(box), "one and two have a link again", timeout=30)


def test_the_journal_has_no_complaint_of_the_sandbox(box: Box) -> None:
    journal = box.journal("meshd*")
    for word in ("Traceback", "Permission denied", "Operation not permitted", "never retrieved"):
        assert word not in journal, [line for line in journal.splitlines() if word in line][:5]


def test_an_identity_from_a_credential_is_used(box: Box) -> None:
    box.run("systemctl", "stop", "meshd@two.service")
    key = Ed25519PrivateKey.generate()
    seed = base64.b64encode(key.private_bytes_raw()).decode()
    box.write("/etc/credstore/meshd-three.identity", f"identity {seed}\nsealing {seed}\n")
    box.write("/etc/meshd/three.toml", CONFIG)
    box.run("systemctl", "start", "meshd@three.service")
    assert ask(box, "status", at="/run/meshd-three/meshd.sock")["peer_id"] == text_of(
        key.public_key().public_bytes_raw()
    )
    assert "identity.key" not in box.run("ls", "-A", "/var/lib/meshd-three").stdout
    box.run("systemctl", "stop", "meshd@three.service", "meshd@three.socket")


def test_uninstall_keeps_state_and_purge_takes_it(box: Box) -> None:
    make(box, "uninstall")
    for path in ("/opt/meshd", "/usr/local/bin/meshctl", "/run/meshd", "/usr/local/lib/systemd/system/meshd.service"):
        assert box.run("test", "-e", path, check=False).returncode == 1, path
    assert box.run("pgrep", "-u", "meshd", check=False).stdout == ""
    box.run("test", "-e", "/var/lib/meshd/identity.key")
    make(box, "uninstall", "PURGE=1")
    left = box.run(
        "sh", "-c", "ls -d /var/lib/meshd* /var/lib/private/meshd* /etc/meshd; getent passwd meshd", check=False
    )
    assert left.stdout == ""
    assert box.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "meshd*").stdout == ""
