"""``meshd-push`` under a real systemd: port 443 without rights, its own certificate, renewed with a reload."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sdbox import Box

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("systemctl", "unshare", "nsenter", "ip", "make", "setpriv"),
    pytest.mark.xdist_group("service"),
]

SERVICE, SOCKET = "meshd-push.service", "meshd-push.socket"
TLS = "/etc/meshd/tls"
CONFIG = f"""
[service]
public_url = "https://push.test"
stun = "off"
metrics_port = 9_465
tls_certificate = "{TLS}/fullchain.pem"
tls_key = "{TLS}/privkey.pem"
"""
ASK = """
import json, ssl, socket, urllib.request
plain = ssl.create_default_context(); plain.check_hostname = False; plain.verify_mode = ssl.CERT_NONE
with plain.wrap_socket(socket.create_connection(("127.0.0.1", 443), 5)) as stream:
    print(ssl.DER_cert_to_PEM_cert(stream.getpeercert(True)))
health = urllib.request.urlopen("https://127.0.0.1/healthz", context=plain, timeout=5)
print(json.load(health)["status"])
print(urllib.request.urlopen("http://127.0.0.1:9465/metrics", timeout=5).read().decode())
"""


def put_certificate(box: Box, name: str) -> str:
    """A new certificate where the service looks for it, as a renewal puts it. Gives it in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = made.public_bytes(serialization.Encoding.PEM).decode()
    box.write(f"{TLS}/fullchain.pem", chain)
    box.write(f"{TLS}/privkey.pem", key.private_bytes(*form).decode())
    box.run("sh", "-c", f"chgrp daemon {TLS}/* && chmod 640 {TLS}/*")
    return chain.strip()


def asked(box: Box) -> str:
    return box.run("/opt/meshd/venv/bin/python", "-c", ASK).stdout


def pid(box: Box) -> int:
    return int(box.show(SERVICE, "MainPID")["MainPID"])


@pytest.fixture(scope="module")
def service(box: Box) -> Iterator[str]:
    """Running on port 443, which systemd has opened; gives its first certificate."""
    assert "#listen" in box.run("cat", "/etc/meshd/push.toml").stdout
    default = box.run("cat", "/etc/meshd/push.toml").stdout
    box.run("mkdir", "-p", TLS)
    certificate = put_certificate(box, "first")
    box.write("/etc/meshd/push.toml", CONFIG)
    box.run("mkdir", "-p", f"/etc/systemd/system/{SERVICE}.d")
    box.write(f"/etc/systemd/system/{SERVICE}.d/tls.conf", "[Service]\nSupplementaryGroups=daemon\n")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", SOCKET)
    box.run("systemctl", "start", SERVICE)
    yield certificate
    box.run("systemctl", "stop", SOCKET, SERVICE)
    box.run("rm", "-r", f"/etc/systemd/system/{SERVICE}.d", TLS)
    box.write("/etc/meshd/push.toml", default)
    box.run("systemctl", "daemon-reload")


def test_the_units_verify_without_a_word(box: Box) -> None:
    for unit in (SERVICE, SOCKET):
        assert box.run("systemd-analyze", "verify", unit).stderr == "", unit


def test_it_serves_port_443_without_any_right(box: Box, service: str) -> None:
    answer = asked(box)
    assert service in answer
    assert "\nok\n" in answer
    assert "meshd_pushservice_store_up 1" in answer
    status = box.run("cat", f"/proc/{pid(box)}/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "\nUid:\t0\t" not in status
    assert "0 user agents connected" in box.show(SERVICE, "StatusText")["StatusText"]


def test_a_reload_takes_the_renewed_certificate_and_a_wrong_one_not(box: Box, service: str) -> None:
    before = pid(box)
    renewed = put_certificate(box, "second")
    assert renewed not in asked(box)
    box.run("systemctl", "reload", SERVICE)
    box.wait_for(lambda: renewed in asked(box), "the renewed certificate is served")
    box.write(f"{TLS}/privkey.pem", "damaged")
    assert box.run("systemctl", "reload", SERVICE, check=False).returncode != 0
    assert renewed in asked(box)
    assert pid(box) == before


def test_clients_wait_while_it_restarts(box: Box, service: str) -> None:
    renewed = put_certificate(box, "third")
    box.run("systemctl", "stop", SERVICE)
    assert renewed in asked(box)  # the socket starts it again
    box.run("systemctl", "kill", "--signal=SIGKILL", "--kill-who=main", SERVICE)
    box.wait_for(lambda: renewed in asked(box), "systemd has started it again")
