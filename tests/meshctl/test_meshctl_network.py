"""`meshctl netcheck`, and QR codes: printed, read back from the printed characters, and decoded by another program."""

import io
import os
import pty
import struct
import subprocess
import zlib

import pytest
from fake_values import TOKEN

from meshctl.qr import MAX_TEXT_SIZE, QUIET_ZONE, QrError, modules, print_qr

LIGHT_BLOCKS = {" ": (True, True), "▀": (False, True), "▄": (True, False), "█": (False, False)}


def test_netcheck_for_people(daemon):
    ended = daemon.run("netcheck", "--server", "192.0.2.7:3478", "--server", "[2001:db8::7]:3478")
    assert ended.status == 0
    _, params, _ = daemon.backend.calls[-1]
    assert params["servers"] == ["192.0.2.7:3478", "[2001:db8::7]:3478"]
    out = ended.out
    assert "192.168.1.2, UDP: gets out" in out
    assert "endpoint-independent: one port outside for all peers" in out
    assert "address-and-port-dependent: lets in only what was sent to" in out
    assert "there is no such network here" in out
    assert "lets UDP in at 203.0.113.7:4242 (PCP)." in out
    assert "12.3 ms" in out
    assert "no answer" in out
    assert out.endswith("Two such nodes connect directly.\nFiltering cannot be known.\n")
    assert max(map(len, out.splitlines())) <= 100


def printed(text):
    """The modules of what ``print_qr`` wrote, without colours: True is dark."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print_qr(text, stream)
    return read_back(stream.buffer.getvalue().decode())


def read_back(text):
    rows = []
    for line in text.splitlines():
        pairs = [LIGHT_BLOCKS[character] for character in line]
        rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    return rows


def png(rows, scale=3):
    """A grey picture of the modules."""
    pixels = [b"".join((b"\0" if dark else b"\xff") * scale for dark in row) for row in rows for _ in range(scale)]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_what_is_printed_are_the_modules_with_light_around():
    rows = printed(TOKEN)
    expected = modules(TOKEN)
    assert rows[: len(expected)] == expected
    assert len(rows) - len(expected) in (0, 1)
    assert not any(any(row) for row in rows[:QUIET_ZONE])
    assert not any(row[0] or row[QUIET_ZONE - 1] or row[-1] for row in rows[: len(expected)])


@pytest.mark.needs("zbarimg")
@pytest.mark.parametrize("text", [TOKEN, "x" * MAX_TEXT_SIZE, "meshd1_" + "Ab0-_" * 170, "grüße"])
def test_another_program_reads_what_is_printed(text, tmp_path):
    picture = tmp_path / "code.png"
    picture.write_bytes(png(printed(text)))
    read = subprocess.run(
        ["zbarimg", "-q", "--raw", str(picture)], capture_output=True, text=True, timeout=20, check=True
    )
    assert read.stdout.removesuffix("\n") == text


def test_too_long_says_what_to_do():
    with pytest.raises(QrError, match="pipe it through ssh"):
        modules("x" * (MAX_TEXT_SIZE + 1))
    with pytest.raises(QrError, match="UTF-8"):
        print_qr("x", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))


def test_introduce_shows_it_beside_the_token(daemon):
    daemon.env["PYTHONUTF8"] = "1"
    ended = daemon.run("introduce", "--qr")
    assert ended.out == TOKEN + "\n", "what goes on to another program is the token alone"
    code = "\n".join(line for line in ended.err.splitlines() if line and set(line) <= set(LIGHT_BLOCKS))
    assert read_back(code)[: len(modules(TOKEN))] == modules(TOKEN)
    for words in (["list", "--qr"], ["--qr", "--json"]):
        assert daemon.run("introduce", *words).status == 2


@pytest.mark.parametrize("columns", [200, 60])
def test_on_a_terminal_it_is_dark_on_light_or_says_that_it_does_not_fit(daemon, columns):
    controller, terminal = pty.openpty()
    daemon.env |= {"PYTHONUTF8": "1", "COLUMNS": str(columns), "TERM": "xterm-256color"}
    with daemon.start("introduce", "--qr", stderr=terminal, stdout=subprocess.PIPE) as process:
        os.close(terminal)
        written = b""
        while True:
            try:
                part = os.read(controller, 65_536)
            except OSError:  # the other end is closed
                break
            written += part
        assert process.stdout.read().decode() == TOKEN + "\n"
    os.close(controller)
    shown = written.decode()
    if columns < 100:
        assert "Enlarge the window" in shown
        assert "█" not in shown
    else:
        lines = [line for line in shown.splitlines() if "\x1b[38;5;16;48;5;231m" in line]
        assert len(lines) == (len(modules(TOKEN)) + 1) // 2
        assert all(line.endswith("\x1b[0m") for line in lines)
