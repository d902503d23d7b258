"""All that the fuzzers have found interesting, again: each input in ``corpus/`` and each seed, without a fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_corpus import read
from fuzz_seeds import seeds
from fuzz_targets import TARGETS

MAX_CORPUS_SIZE = 400_000  # bytes in all: it is kept in the repository


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_was_ever_interesting_does_harm(name: str) -> None:
    inputs = [*seeds()[name], *read(name)]
    assert len(inputs) > len(seeds()[name]), "there is a corpus"
    for data in inputs:
        TARGETS[name](data)


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in (Path(__file__).parent / "corpus").iterdir()) < MAX_CORPUS_SIZE
