"""Hold the table of mutants to the sources: each change can be made, and changes one place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from table import ROOT, names, read


@pytest.mark.parametrize("name", names())
def test_every_mutant_can_be_made(name: str) -> None:
    """What it replaces stands in its file exactly once, and what takes its place is something else."""
    texts: dict[str, str] = {}
    for mutant in read(name).mutants:
        if mutant.path not in texts:
            texts[mutant.path] = (ROOT / mutant.path).read_text(encoding="utf-8")
        assert mutant.applied(texts[mutant.path]) != texts[mutant.path], mutant.what


@pytest.mark.parametrize("name", names())
def test_every_mutant_is_told_from_the_others(name: str) -> None:
    """No two mutants of a file have the same words, or make the same change."""
    mutants = read(name).mutants

    assert len({(mutant.path, mutant.what) for mutant in mutants}) == len(mutants)
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in mutants}) == len(mutants)


@pytest.mark.parametrize("name", names())
def test_every_room_has_tests(name: str) -> None:
    """A table names the tests of its room; a test that is said to catch a mutant is one of them."""
    room = read(name)

    assert room.tests
    assert {mutant.by.split("::")[0] for mutant in room.mutants} - {""} <= set(room.tests)
