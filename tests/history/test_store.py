from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import inf, log

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.errors import ConfigError
from stillframe.history.pooling import Pooled
from stillframe.history.store import ChunkCounts, ChunkShape, History, RetentionPolicy

Make = Callable[..., History]
Chunks = Callable[..., Pooled]


def worth(*utilities: float) -> np.ndarray:
    """What a frame's chunks are worth."""
    return np.array(utilities)


def by_frame(history: History) -> dict[int, tuple[Tensor, Tensor]]:
    """Frame -> the keys and values that are found of its only chunk [layers, heads, slots, head_dim]."""
    columns, slots = history.columns(), history.shape.slots
    assert columns is not None
    return {
        int(frame): (
            columns.keys[:, :, at * slots : (at + 1) * slots],
            columns.values[:, :, at * slots : (at + 1) * slots],
        )
        for at, frame in enumerate(history.held_frames)
    }


def test_what_is_worth_least_goes(history: Make, chunks: Chunks) -> None:
    """Beyond the budget the lowest utility goes, whenever it came; of equal ones the oldest."""
    full = history(room=3)
    for seed, utility in enumerate([0.9, 0.2, 0.5, 0.7, 0.7, 0.7]):
        full.add(chunks(seed), worth(utility))

    assert sorted(full.held_frames) == [1, 5, 6]
    assert (full.counts.kept, full.counts.dropped) == (6, 3)


def test_worth_decays(history: Make, chunks: Chunks) -> None:
    """What was worth a little more long ago gives way to what is worth a little less now."""
    full = history(room=2, decay=0.5)
    for seed, utility in enumerate([0.9, 0.8, 0.7]):
        full.add(chunks(seed), worth(utility))

    assert sorted(full.held_frames) == [2, 3]


@given(length=st.integers(1, 80), room=st.integers(2, 7), window=st.integers(0, 1))
def test_sampled_frames_are_spread_evenly(
    shape: ChunkShape, chunks: Chunks, length: int, room: int, window: int
) -> None:
    """However long the episode: all room is used, from the first frame on, and no gap is more than twice another.

    What a frame is worth does not matter, nor how long ago it came.
    """
    full = History(shape, RetentionPolicy(room * shape.nbytes, window_frames=window, decay=0.5, evenly=True))
    for frame in range(1, length + 1):
        full.add(chunks(0), worth(frame % 5 / 5))
    held = sorted(full.held_frames.tolist())
    sampled = held[: len(held) - window]
    gaps = [later - earlier for earlier, later in pairwise(sampled)]

    assert len(held) == min(room, length)
    assert not window or held[-1] == length
    if sampled:
        assert sampled[0] == 1
        assert length - window - sampled[-1] < max(gaps, default=inf)
    if gaps:
        assert max(gaps) <= 2 * min(gaps)
        assert len({*gaps}) <= 2


def test_the_window_is_verbatim(history: Make, chunks: Chunks) -> None:
    """The last frames are there as they came, with no bias against them, whatever they are worth."""
    full = history(room=5, window_frames=3, threshold=0.5)
    for seed in range(9):
        full.add(chunks(seed), worth(0.01 if seed else 0.9))
    found = by_frame(full)
    columns = full.columns()

    assert sorted(found) == [1, 7, 8, 9]
    for frame in (7, 8, 9):
        assert torch.equal(found[frame][0], chunks(frame - 1).keys[0])
        assert torch.equal(found[frame][1], chunks(frame - 1).values[0])
    assert columns is not None
    recent = columns.bias[columns.ranks > 0]
    torch.testing.assert_close(recent, torch.full((6,), log(6 / 2)))


def test_a_chunk_below_the_threshold_goes_when_it_leaves_the_window(history: Make, chunks: Chunks) -> None:
    """There is room for it, and still it goes; what is worth enough stays."""
    full = history(room=9, window_frames=2, threshold=0.5)
    for seed, utility in enumerate([0.4, 0.6, 0.4, 0.4]):
        full.add(chunks(seed), worth(utility))

    assert sorted(full.held_frames) == [2, 3, 4]


def test_the_bias_says_what_a_slot_is_worth_and_stands_for(history: Make, chunks: Chunks) -> None:
    """Log utility + log(tokens / slots), at every slot of the chunk."""
    full = history()
    full.add(chunks(0), worth(0.25))
    columns = full.columns()

    assert columns is not None
    torch.testing.assert_close(columns.bias, torch.full((2,), log(0.25) + log(3)))


@settings(max_examples=settings().max_examples // 2)
@given(
    frames=st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=25),
    room=st.integers(2, 7),
    window=st.integers(0, 1),
    threshold=st.floats(0, 1),
)
def test_invariants(
    shape: ChunkShape, chunks: Chunks, frames: list[list[float]], room: int, window: int, threshold: float
) -> None:
    """Whatever comes: within the budget, the window whole, keys beside their values, ranks in order of age."""
    full = History(shape, RetentionPolicy(room * shape.nbytes, 2, window, threshold, decay=0.9))
    for seed, utilities in enumerate(frames):
        before = full.counts
        now = full.add(chunks(seed, count=2), worth(*utilities))
        columns = full.columns()

        assert full.nbytes <= room * shape.nbytes
        assert full.held + full.counts.dropped == 2 * (seed + 1)
        assert full.counts == ChunkCounts(before.kept + now.kept, before.dropped + now.dropped)
        assert now.kept == (full.held_frames == seed + 1 - window).sum()
        assert not window or (full.held_frames == seed + 1).sum() == 2
        for at, frame in enumerate(full.held_frames):
            assert columns is not None
            came, place = chunks(int(frame) - 1, count=2), slice(2 * at, 2 * at + 2)
            which = [torch.equal(columns.keys[:, :, place], came.keys[one]) for one in (0, 1)]
            assert sum(which) == 1
            assert torch.equal(columns.values[:, :, place], came.values[which.index(True)])
        if columns is not None:
            age = torch.from_numpy(np.unique(full.held_frames, return_inverse=True)[1]).repeat_interleave(2)
            assert torch.equal(columns.ranks, age)


GRID = st.sampled_from([0.0, 0.25, 0.5, 1.0])  # with a decay of a half, worth of unlike ages can be equal to the bit
Kept = list[tuple[int, float]]  # (frame, utility) of a chunk that is held


def halvings(place: int) -> float:
    """How often a place can be halved."""
    return inf if place == 0 else 0 if place % 2 else 1 + halvings(place // 2)


def staying(kept: Kept, now: int, rules: RetentionPolicy, room: int | None) -> Kept:
    """Which chunks should stay, by a plain sort: the window, then the worth or the place of each, the newest first."""

    def rank(chunk: tuple[int, float]) -> tuple[float, int]:
        frame, utility = chunk
        worth = halvings(frame - 1) if rules.evenly else utility * rules.decay ** (now - frame)
        return (inf if frame > now - rules.window_frames else worth), frame

    able = [chunk for chunk in kept if chunk[0] > now - rules.window_frames or chunk[1] >= rules.threshold]
    return sorted(able, key=rank, reverse=True)[:room]


@example(  # what is below the threshold is worth more now
    steps=[(0.5, 0.5), (0.5, 0.5), (1.0, 0.25)], room=4, window=0, threshold=0.5, decay=0.5, evenly=False
)
@settings(derandomize=True)
@given(
    steps=st.lists(st.tuples(GRID, GRID) | st.sampled_from(["revise", "reset", "restore"]), min_size=1, max_size=25),
    room=st.integers(4, 8) | st.none(),
    window=st.integers(0, 2),
    threshold=GRID,
    decay=st.sampled_from([0.5, 1.0]),
    evenly=st.booleans(),
)
def test_what_is_held_is_what_a_plain_sort_keeps(
    shape: ChunkShape,
    chunks: Chunks,
    steps: list[tuple[float, float] | str],
    room: int | None,
    window: int,
    threshold: float,
    decay: float,
    evenly: bool,  # noqa: FBT001 (hypothesis gives it)
) -> None:
    """After any frames, words said anew, resets and restorings: frames, utilities, bias and tally are the model's."""
    rules = RetentionPolicy(None if room is None else room * shape.nbytes, 2, window, threshold, decay, evenly)
    full, kept, tally, now = History(shape, rules), Kept(), ChunkCounts(), 0
    for step in steps:
        if step == "reset":
            full.reset()
            kept, tally, now = [], ChunkCounts(), 0
        elif step == "restore":
            saved, full = full.saved(), History(shape, rules)
            full.restore(saved)
        elif step == "revise":
            said = np.array([frame % 3 / 4 for frame in full.held_frames])
            full.set_utilities(said)
            kept = list(zip(full.held_frames.tolist(), said.tolist(), strict=True))
        else:
            now += 1
            full.add(chunks(now, count=2), worth(*step))
            came = [*kept, *((now, utility) for utility in step)]
            kept = staying(came, now, rules, room)
            leaving = sum(frame == now - window for frame, _ in kept)
            tally = ChunkCounts(tally.kept + leaving, tally.dropped + len(came) - len(kept))
            assert _as_it_came(full, chunks(now, count=2), step, now)
        columns = full.columns()
        said = np.array([1.0 if frame > now - window else utility for frame, utility in sorted(kept)])

        assert (full.counts, full.frames) == (tally, now)
        assert sorted(zip(full.held_frames.tolist(), full.utilities.tolist(), strict=True)) == sorted(kept)
        assert (columns is None) == (not kept)
        if columns is not None:
            order = np.lexsort((full.utilities, full.held_frames))
            bias = np.log(np.maximum(said, 1e-6)) + log(shape.tokens / shape.slots)
            found = columns.bias.numpy().reshape(-1, shape.slots)[order]
            np.testing.assert_allclose(found, bias[:, None].repeat(shape.slots, 1), atol=1e-5)


def _as_it_came(full: History, came: Pooled, utilities: tuple[float, float], frame: int) -> bool:
    """Whether each held chunk of that frame has the keys and values that came with its utility."""
    columns, slots = full.columns(), full.shape.slots
    for at in np.flatnonzero(full.held_frames == frame).tolist():
        assert columns is not None
        place = slice(slots * at, slots * (at + 1))
        found = [
            torch.equal(columns.keys[:, :, place], came.keys[one])
            and torch.equal(columns.values[:, :, place], came.values[one])
            and full.utilities[at] == utility
            for one, utility in enumerate(utilities)
        ]
        if not any(found):
            return False
    return True


def test_a_chunk_takes_the_bytes_that_are_taken_for_it(shape: ChunkShape) -> None:
    """What a budget is divided by is what a chunk costs, in every shape and precision."""
    for each in (shape, replace(shape, dtype=torch.bfloat16), replace(shape, layers=1, slots=5, head_dim=3)):
        assert each.allocate(3).nbytes == 3 * each.nbytes


def test_a_budget_for_no_chunk_is_refused(shape: ChunkShape) -> None:
    """Even without a window: a history that can hold nothing is a mistake; one that just holds a frame is none."""
    for window in (0, 1):
        with pytest.raises(ConfigError, match="1 frames, which window_frames keeps"):
            History(shape, RetentionPolicy(2 * shape.nbytes - 1, chunks_per_frame=2, window_frames=window))
        assert History(shape, RetentionPolicy(2 * shape.nbytes, chunks_per_frame=2, window_frames=window)).held == 0


def test_growing_without_end_is_cheap(history: Make, chunks: Chunks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is copied as often as it doubles, not with every frame."""
    sizes, allocate = [], ChunkShape.allocate
    monkeypatch.setattr(ChunkShape, "allocate", lambda self, count: sizes.append(count) or allocate(self, count))
    full = history(room=None)
    for seed in range(200):
        full.add(chunks(seed % 3), worth(0.5))

    assert full.held == 200
    assert len(sizes) <= 6
    assert all(later >= 2 * earlier for earlier, later in pairwise(sizes))


def test_without_end_nothing_goes(history: Make, chunks: Chunks) -> None:
    """No budget: every chunk of a long episode is there, as it came."""
    full = history(room=None)
    for seed in range(70):
        full.add(chunks(seed), worth(0.5))
    found = by_frame(full)

    assert sorted(found) == [*range(1, 71)]
    assert all(torch.equal(found[frame][0], chunks(frame - 1).keys[0]) for frame in found)


def test_a_reset_leaves_no_trace(history: Make, chunks: Chunks) -> None:
    """After it, whenever it came, everything is as in a history that has seen nothing."""
    fresh, used = history(room=2, decay=0.9), history(room=2, decay=0.9)
    for seed in range(7):
        used.add(chunks(50 + seed), worth(1.0))
    used.reset()
    assert used.columns() is None
    for full in (fresh, used):
        for seed, utility in enumerate([0.3, 0.9, 0.4]):
            full.add(chunks(seed), worth(utility))

    assert _same(fresh, used)


def test_what_is_saved_goes_on_as_if_nothing_had_been(history: Make, chunks: Chunks) -> None:
    """Restored elsewhere, the same frames make the same columns; what happens to the one does not touch the other."""
    for room in (3, None):
        here, there = history(room=room, decay=0.9), history(room=room, decay=0.9)
        for seed in range(25):
            here.add(chunks(seed), worth(seed % 7 / 7))
        saved = here.saved()
        here.add(chunks(30), worth(0.5))
        there.restore(saved)
        there.add(chunks(30), worth(0.5))

        assert _same(here, there)


def test_columns_stay_as_they_were(history: Make, chunks: Chunks) -> None:
    """What a pass looks at does not change when the frame after it comes in."""
    full = history(room=1)
    full.add(chunks(0), worth(0.5))
    before = full.columns()
    full.add(chunks(1), worth(0.6))

    assert before is not None
    assert torch.equal(before.keys, chunks(0).keys[0])
    assert torch.equal(before.values, chunks(0).values[0])


def test_a_step_costs_the_same_however_long_the_episode(history: Make, chunks: Chunks) -> None:
    """Bytes, columns and ranks of the thousandth frame are bounded as those of the tenth."""
    full = history(room=4, window_frames=2, decay=0.99)
    sizes = set()
    for seed in range(1000):
        full.add(chunks(seed % 5), worth(seed % 7 / 7))
        columns = full.columns()
        if seed >= 10 and columns is not None:
            sizes.add((full.nbytes, columns.slots, int(columns.ranks.max()), full._storage.shape[3]))

    assert len(sizes) == 1


def test_a_window_that_does_not_fit_is_refused(shape: ChunkShape) -> None:
    """With what it takes."""
    with pytest.raises(ConfigError, match="3 frames, which window_frames keeps"):
        History(shape, RetentionPolicy(2 * shape.nbytes, window_frames=3))


def _same(one: History, other: History) -> bool:
    ours, theirs = one.columns(), other.columns()
    assert ours is not None
    assert theirs is not None
    names = ("keys", "values", "bias", "ranks")
    alike = all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in names)
    return alike and one.counts == other.counts and np.array_equal(one.held_frames, other.held_frames)
