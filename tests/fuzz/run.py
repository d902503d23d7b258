"""Fuzz with atheris (``pip install .[fuzz]``): ``run.py SECONDS [TARGET ...]``, each target for so many seconds.

What adds coverage is kept in ``corpus/``; an input that raises is left in ``build/fuzz`` and named, and the exit status
is 1.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz_corpus import CORPUS, read, write

ROOT = Path(__file__).parent.parent.parent
MAX_SIZE = 2_048  # bytes of one input
MAX_KEPT_SIZE = 30_000  # bytes of one target's corpus


def fuzz_one(name: str, arguments: list[str]) -> None:
    """In a process of its own: atheris does not return."""
    import atheris

    with atheris.instrument_imports(include=["meshd"]):
        from fuzz_targets import TARGETS
    atheris.Setup([name, *arguments], TARGETS[name])
    atheris.Fuzz()


def fuzz(name: str, seconds: int) -> bool:
    """Whether nothing was found."""
    from fuzz_seeds import seeds

    findings = ROOT / "build" / "fuzz"
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch)
        for number, data in enumerate([*seeds()[name], *read(name)]):
            (corpus / str(number)).write_bytes(data)
        child = [sys.executable, __file__, "--one", name]
        limits = [f"-max_len={MAX_SIZE}", "-rss_limit_mb=1024", "-timeout=10", "-verbosity=0", "-print_final_stats=1"]
        done = subprocess.run(
            [*child, *limits, f"-max_total_time={seconds}", f"-artifact_prefix={findings}/{name}-", scratch],
            capture_output=True,
            text=True,
        )
        runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {runs[0] if runs else '?'} inputs, {'nothing found' if done.returncode == 0 else 'FOUND'}")
        if done.returncode != 0:
            print(done.stderr[-3_000:])
            return False
        kept, size = [], 0
        for data in sorted((path.read_bytes() for path in corpus.iterdir()), key=len):
            size += len(data)
            if size > MAX_KEPT_SIZE:
                break
            kept.append(data)
        write(name, kept)
    return True


def main() -> int:
    """Run them all, one after the other."""
    if sys.argv[1] == "--one":
        fuzz_one(sys.argv[2], sys.argv[3:])
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is missing: pip install '.[fuzz]'", file=sys.stderr)
        return 1
    from fuzz_targets import TARGETS

    CORPUS.mkdir(exist_ok=True)
    names = sys.argv[2:] or list(TARGETS)
    clean = [fuzz(name, int(sys.argv[1])) for name in names]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
