"""No secret in any line of any log, at the most talkative level, over the whole life of a mesh."""

import base64
import re
import sqlite3
from pathlib import Path

import pytest

from demo.processes import Mesh, wait_for
from meshd.wire.endpoint import join_endpoint
from meshd.wire.introduction import decode_token

pytestmark = pytest.mark.e2e

BODY = "the rendezvous is at the old mill"


def spellings(secret: bytes) -> set[str]:
    """The ways in which bytes get into a log."""
    urlsafe = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    return {secret.hex(), urlsafe, base64.b64encode(secret).decode().rstrip("="), repr(secret)[2:-1]}


def key_seeds(state: Path) -> list[bytes]:
    lines = (state / "identity.key").read_text().splitlines()
    return [base64.b64decode(line.split()[1]) for line in lines if line and not line.startswith("#")]


def test_no_secret_in_any_log(mesh: Mesh) -> None:
    a, b = mesh.start("a", "b")
    a.meshctl("found", "home", "--name", "a")
    token = str(a.call("introductions.mint")["token"])
    b.meshctl("join", token, "--name", "b")
    refused = a.meshctl("join", token, "--name", "again", check=False)
    assert refused.returncode == 1
    a.meshctl("send", "b", BODY)
    b.kill()
    b.start()
    wait_for(lambda: Mesh.fully_linked(a, b), "b is back")
    b.meshctl("inbox")

    introduction = decode_token(token)
    endpoints = [join_endpoint(part.prefix, part.tail) for part in introduction.subscriptions]
    mesh_key = (mesh.directory / "home.meshkey").read_text().splitlines()[-1]
    encoded_body = base64.urlsafe_b64encode(BODY.encode()).decode().rstrip("=")
    secrets = {token, token[len("meshd1_") : 100], BODY, encoded_body, mesh_key}
    secrets |= set(endpoints) | {endpoint.rpartition("/")[2] for endpoint in endpoints}
    secrets |= spellings(introduction.secret)
    for part in introduction.subscriptions:
        secrets |= spellings(part.auth)
        for capability in part.capabilities:
            secrets |= spellings(capability.signature)
    for daemon in (a, b):
        for seed in key_seeds(daemon.state):
            secrets |= spellings(seed)

    logs = {process.name: process.log() for process in (a, b, mesh.push)}
    assert '"level":"debug"' in logs["a"]  # or the test would prove little
    for name, log in logs.items():
        for secret in secrets:
            assert secret not in log, f"{name} logged a secret: {_around(log, secret)}"
        assert not re.search(r"eyJ[A-Za-z0-9_-]{10}", log), f"{name} logged a JWT"
        assert "/wpush/" not in log, f"{name} logged an endpoint: {_around(log, '/wpush/')}"


def _around(log: str, secret: str) -> str:
    return log[max(0, log.index(secret) - 200) :][:200]


def test_keys_and_state_are_for_the_owner_alone(mesh: Mesh) -> None:
    (a,) = mesh.start("a")
    assert a.state.stat().st_mode & 0o777 == 0o700
    for file in a.state.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    with sqlite3.connect(f"file:{next(a.state.glob('*.db'))}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
