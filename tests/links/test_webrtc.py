from __future__ import annotations

import subprocess
import sys

from meshd.links.certificate import ROTATION_INTERVAL, DailyCertificate


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_links_come_without_pyav_and_leave_the_real_one_importable():
    assert run_python(
        "import sys, meshd.links.port\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'av'])\n"
        "import av\n"
        "print(hasattr(av, '__version__'))"
    ).split("\n") == ["[]", "True"]


def test_pyav_imported_before_stays():
    assert run_python("import av, aiortc, meshd.links.port; print(aiortc.rtp.AudioFrame is av.AudioFrame)") == "True"


def test_the_certificate_is_shared_for_a_day():
    now = 1_000.0
    daily = DailyCertificate(lambda: now)
    first = daily.current()
    now += ROTATION_INTERVAL - 1
    assert daily.current() is first
    now += 1
    assert daily.current().fingerprint != first.fingerprint
    second = daily.current()
    daily.renew()
    assert daily.age() is None
    assert daily.current().fingerprint not in (first.fingerprint, second.fingerprint)
    now += 7
    assert daily.age() == 7
    assert len(first.fingerprint) == 32
    assert first.getFingerprints()[0].value == first.fingerprint.hex(":").upper()
