"""The pages say what the code does, as far as a program can tell: generated parts, links, commands, verbs, paths."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from generated import PARTS, ROOT, with_part
from vectors import ALICE, ENVELOPE, INTRODUCTION, MEMBER_CERTIFICATE, MESH, RECORD, SESSION, vectors

from meshctl.table import VERBS
from meshd.crypto.admission import decode_certificate, verify_chain
from meshd.ids import Now
from meshd.wire.envelope import check_times, open_envelope
from meshd.wire.introduction import decode_token
from meshd.wire.messages import TO_A_MEMBER, Ping, decode_message
from meshd.wire.record import decode_record, verify_record

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MAX_README_LINES = 200


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(("page", "part"), PARTS, ids=lambda value: str(value))
def test_generated_parts_are_up_to_date(page: str, part: str) -> None:
    text = (ROOT / page).read_text()
    assert text == with_part(text, part, PARTS[page, part]()), "run: make docs"


# -- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """As forges make them of headings: lower case, punctuation dropped, spaces to dashes."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" not in target:
            yield target


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{names(page)}: {target}"
        assert not anchor or anchor in anchors(there), f"{names(page)}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
    assert set(PAGES) <= seen


# -- commands ---------------------------------------------------------------------------------------------------------


def code(page: Path) -> Iterator[str]:
    """What stands as code: fenced, indented, or between backticks."""
    text = page.read_text()
    yield from FENCE.findall(text)
    yield from re.findall(r"^ {4,}\S.*$", text, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_verbs_of_meshctl_exist(page: Path) -> None:
    for piece in code(page):
        for verb in re.findall(r"(?:^|[\s$|;`])meshctl ([a-z]+)", piece):
            assert verb in VERBS, f"{names(page)}: meshctl {verb}"


def test_every_verb_is_explained() -> None:
    told = " ".join((ROOT / page).read_text() for page in ("README.md", "docs/operations.md"))
    assert [verb for verb in VERBS if f"meshctl {verb}" not in told] == []


@cache
def help_of(*command: str) -> str:
    """What a program of this tree says about itself."""
    modules = {"meshctl": "meshctl", "meshd": "meshd", "meshd-push": "meshd.push.service"}
    done = subprocess.run(
        [sys.executable, "-m", modules[command[0]], *command[1:], "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_options_exist(page: Path) -> None:
    for piece in code(page):
        for program, rest in re.findall(r"(?:^|[\s/|])(meshd|meshd-push|meshctl)((?: [^\s|#]+)+)", piece):
            verb = re.match(r" ([a-z]+)", rest) if program == "meshctl" else None
            if program == "meshctl" and verb is None:
                continue
            for option in re.findall(r" (--[a-z-]+)", rest):
                told = help_of(program, *([verb[1]] if verb else []))
                assert option in told, f"{names(page)}: {program}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for piece in code(page):
        for target in re.findall(r"(?:^\s*|\$ |sudo )make ([a-z0-9]+)", piece, re.MULTILINE):
            assert target in targets, f"{names(page)}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_modules_that_are_to_be_run_exist(page: Path) -> None:
    for piece in code(page):
        for module in re.findall(r"python -m ((?:meshd|meshctl|demo|bench)[a-z_.]*)", piece):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{names(page)}: {module}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_files_that_are_named_exist(page: Path) -> None:
    for piece in code(page):
        for path in re.findall(r"(?:^|[\s`])((?:meshd|meshctl|systemd|tests|demo|bench|docs)/[\w./@*-]*\w)", piece):
            if "*" not in path and not path.startswith("meshd/meshd.sock"):
                assert (ROOT / path).exists(), f"{names(page)}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_tests_that_are_named_exist(page: Path) -> None:
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in set(re.findall(r"\btest_[a-z0-9_]+\b(?!\.py)", page.read_text())):
        assert f"def {name}(" in written or list((ROOT / "tests").rglob(f"{name}.py")), f"{names(page)}: {name}"


# -- style ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_no_path_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text()
    assert str(ROOT) not in text
    assert not re.search(r"/(home|Users|root|work)/\w", text), names(page)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < MAX_README_LINES


# -- the worked example holds -----------------------------------------------------------------------------------------


def test_the_envelope_sealed_by_another_hpke_opens_here() -> None:
    letter = open_envelope(ALICE, MESH, ENVELOPE)
    check_times(letter, Now(0.0, float(letter.issued)))
    assert (letter.session, letter.sequence) == (SESSION, 1)
    assert decode_message(letter.body, TO_A_MEMBER) == Ping(7)


def test_the_record_and_its_chain_verify() -> None:
    record = decode_record(RECORD.encoded)
    verify_record(record, ALICE, MESH, record.issued)
    verify_chain(record.chain, MESH, record.issued, ALICE.verify)
    assert decode_certificate(MEMBER_CERTIFICATE.encoded).name == "bob"


def test_the_token_survives_the_page() -> None:
    pieces = {name: value for vector in vectors() for name, value in vector.pieces}
    token = pieces["token"]
    assert isinstance(token, str)
    page = (ROOT / "docs/protocol.md").read_text()
    printed = page[page.index("\ntoken:\n") + len("\ntoken:\n") : page.index("\nsession: ")]
    assert decode_token(printed) == decode_token(token) == INTRODUCTION


def test_vectors_are_the_same_on_every_run() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "tests/docs/vectors.py")], capture_output=True, text=True, check=True
    )
    again = subprocess.run(
        [sys.executable, str(ROOT / "tests/docs/vectors.py")], capture_output=True, text=True, check=True
    )
    assert made.stdout == again.stdout != ""
