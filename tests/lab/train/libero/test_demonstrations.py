from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stillframe.errors import StillframeError
from stillframe_lab.train.libero.demonstrations import (
    BLOCK,
    Agenda,
    Collector,
    DemoFolder,
    DemoId,
    wanted_demos,
)
from stillframe_lab.train.libero.recording import Recorder, Wanderer

RECORDER = Recorder("libero_spatial", keep=0.2)


def test_a_demonstration_is_read_as_it_was_written(demos: Callable[[int], DemoFolder]) -> None:
    """Every array, and every picture to the byte."""
    folder = demos(1)
    demo = folder.load(DemoId(3, 0))
    folder.save(DemoId(3, 7), demo)
    again = folder.load(DemoId(3, 7))

    assert again.pictures == demo.pictures
    assert [len(step) for step in demo.pictures] == [2] * len(demo.kept)
    for name in ("kept", "states", "actions", "points_m", "points_px"):
        assert np.array_equal(getattr(again, name), getattr(demo, name)), name


def test_all_tasks_have_some_before_any_has_all() -> None:
    """A collection that is stopped leaves some of each; a task is opened for several at once."""
    agenda, taken = Agenda(wanted_demos([0, 1, 2], 2 * BLOCK)), []
    while block := agenda.take():
        taken.append(block)

    assert [block[0].task for block in taken] == [0, 1, 2, 0, 1, 2]
    assert {len(block) for block in taken} == {BLOCK}
    assert sorted(demo for block in taken for demo in block) == wanted_demos([0, 1, 2], 2 * BLOCK)


def test_a_collection_makes_what_is_missing(tmp_path: Path, toy) -> None:  # type: ignore[no-untyped-def]  # conftest's
    """The second time nothing; after a loss that one, which comes out the same."""
    collector = Collector(DemoFolder(tmp_path), RECORDER, seed=1)
    wanted = wanted_demos([0, 4], 2)
    collector.collect(wanted, 1, lambda: toy, Wanderer)
    first = collector.demos.load(DemoId(4, 1))
    collector.collect(wanted, 1, lambda: toy, Wanderer)
    collector.demos.file(DemoId(4, 1)).unlink()
    missing = collector.demos.missing(wanted)
    collector.collect(wanted, 1, lambda: toy, Wanderer)

    assert missing == [DemoId(4, 1)]
    assert len(toy.asked) == 5
    assert np.array_equal(collector.demos.load(DemoId(4, 1)).states, first.states)
    assert toy.opened == [("libero_spatial", 0), ("libero_spatial", 4), ("libero_spatial", 4)]


def test_no_two_demonstrations_begin_alike(tmp_path: Path, toy) -> None:  # type: ignore[no-untyped-def]
    """Each draws its own scene; another collection's draws are others, and none is one that evaluation seeds."""
    for seed in (1, 2):
        folder = DemoFolder(tmp_path / str(seed))
        Collector(folder, RECORDER, seed).collect(wanted_demos([0, 1], 2), 1, lambda: toy, Wanderer)
    seeds = [seed for _, seed in toy.asked]

    assert len({*seeds}) == len(seeds) == 8
    assert min(seeds) >= 100_000


def test_an_expert_that_always_fails_is_said(tmp_path: Path, toy) -> None:  # type: ignore[no-untyped-def]
    """With the task's words, not with an endless loop."""
    toy.greased = True
    with pytest.raises(StillframeError, match=r"failed .* times at task 2 .*on the stove"):
        Collector(DemoFolder(tmp_path), Recorder("libero_spatial", keep=0.0), 1).collect(
            [DemoId(2, 0)], 1, lambda: toy, Wanderer
        )
