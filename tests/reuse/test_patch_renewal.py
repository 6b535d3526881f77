from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillframe.reuse.patch_renewal import MOST_CHANGED, ROWS_STEP, SAMPLE_STEP, PatchRenewal, Renewal, pixels_of

GRID, LIMIT, WIDTH = 8, 6.0, 5
PATCHES = GRID * GRID
REFERENCE = np.random.default_rng(3).integers(40, 200, (PATCHES, 12), np.uint8)
RULE = PatchRenewal(GRID, LIMIT, torch.device("cpu"))
most = int(MOST_CHANGED * PATCHES)
some_patches = st.sets(st.integers(0, PATCHES - 1), max_size=most)
turns = st.integers(0, 1000)


def moved(patches: set[int], by: int = int(LIMIT) + 1) -> NDArray[np.uint8]:
    """The reference, but for one pixel of some patches."""
    seen = REFERENCE.copy()
    for patch in patches:
        seen[patch, patch % 12] = int(seen[patch, patch % 12]) + by
    return seen


def chosen(patches: set[int], turn: int = 0) -> Renewal:
    """What is computed of a picture in which these changed."""
    renewal = RULE.choose(moved(patches), REFERENCE, turn)
    assert renewal is not None
    return renewal


@given(some_patches, turns)
def test_what_changed_is_computed_and_a_sample_of_the_rest(patches: set[int], turn: int) -> None:
    """Each once, in order; a sample is of what did not change, and none is taken where nothing did."""
    renewal = chosen(patches, turn)
    at = renewal.at.tolist()

    assert at == sorted(set(at))
    assert set(renewal.at[~renewal.sampled].tolist()) == patches
    assert len(at) % ROWS_STEP == 0
    assert (ROWS_STEP <= int(renewal.sampled.sum()) < 2 * ROWS_STEP) is bool(patches)


@given(some_patches.filter(bool), turns)
def test_the_sample_goes_round(patches: set[int], turn: int) -> None:
    """After as many turns as a sample is apart every patch has been computed."""
    seen = {patch for more in range(SAMPLE_STEP**2) for patch in chosen(patches, turn + more).at.tolist()}

    assert seen == set(range(PATCHES))


@given(turns)
def test_a_sample_is_spread(turn: int) -> None:
    """No patch is further from one of the sample than the sample's step."""
    renewal = chosen({0}, turn)
    rows, columns = np.divmod(renewal.at[renewal.sampled], GRID)
    patch = np.arange(PATCHES)
    apart = np.maximum(abs(patch[:, None] // GRID - rows), abs(patch[:, None] % GRID - columns))

    assert apart.min(axis=1).max() < SAMPLE_STEP


@given(st.sets(st.integers(0, PATCHES - 1), min_size=most + 1))
def test_a_picture_that_changed_is_computed_whole(patches: set[int]) -> None:
    """From half of the patches on."""
    assert RULE.choose(moved(patches), REFERENCE, 0) is None


@pytest.mark.parametrize(("by", "changed"), [(int(LIMIT), []), (int(LIMIT) + 1, [5]), (-int(LIMIT) - 1, [5])])
def test_a_pixel_that_differs_more_than_the_limit_changes_its_patch(by: int, changed: list[int]) -> None:
    """Brighter or darker."""
    assert np.flatnonzero(RULE.changed(moved({5}, by), REFERENCE)).tolist() == changed


@given(some_patches.filter(bool), turns, st.integers(0, 99))
def test_rows_that_were_computed_stand(patches: set[int], turn: int, seed: int) -> None:
    """To the bit, whatever becomes of the others."""
    draw = torch.Generator().manual_seed(seed)
    renewal = chosen(patches, turn)
    computed = torch.randn(len(renewal.at), WIDTH, generator=draw)
    rows = RULE.renewed(torch.randn(PATCHES, WIDTH, generator=draw), computed, renewal)

    assert torch.equal(rows[renewal.at], computed)


@given(some_patches.filter(bool), turns)
def test_rows_move_as_the_sample_did(patches: set[int], turn: int) -> None:
    """A motion that all of the sample share is the others' too, however the changed patches moved."""
    renewal, before = chosen(patches, turn), torch.randn(PATCHES, WIDTH, generator=torch.Generator().manual_seed(1))
    motion = torch.arange(WIDTH) - 2.0
    computed = before[renewal.at] + torch.where(torch.from_numpy(renewal.sampled)[:, None], motion, 100.0)
    rows = RULE.renewed(before, computed, renewal)
    rest = [patch for patch in range(PATCHES) if patch not in renewal.at]

    assert torch.allclose(rows[rest], before[rest] + motion, atol=1e-4)


def test_rows_move_as_their_neighbours_of_the_sample_did() -> None:
    """By inverse squares of distances, against sums written out."""
    renewal = Renewal(np.array([0, 7, 9]), np.array([True, True, False]))
    before = torch.zeros(PATCHES, 1)
    rows = RULE.renewed(before, torch.tensor([[1.0], [3.0], [50.0]]), renewal)
    near, far = 1 / (1 + 1), 1 / (1 + 36)

    assert rows[1].item() == pytest.approx((near * 1.0 + far * 3.0) / (near + far))


@given(some_patches.filter(bool), turns)
def test_motion_is_the_samples_mean(patches: set[int], turn: int) -> None:
    """Relative to each row's size; patches that changed have no say in it."""
    renewal, before = chosen(patches, turn), torch.randn(PATCHES, WIDTH, generator=torch.Generator().manual_seed(1))
    share = torch.where(torch.from_numpy(renewal.sampled), torch.linspace(0.0, 0.2, len(renewal.at)), 9.0)
    computed = before[renewal.at] * (1 + share)[:, None]

    assert RULE.motion(before, computed, renewal) == pytest.approx(
        float(share[torch.from_numpy(renewal.sampled)].mean()), rel=1e-3
    )


def test_without_a_sample_the_others_stay() -> None:
    """Where every patch that was computed changed."""
    before = torch.randn(PATCHES, WIDTH)
    renewal = Renewal(np.array([3, 8]), np.zeros(2, bool))
    rows = RULE.renewed(before, torch.ones(2, WIDTH), renewal)

    assert RULE.motion(before, torch.ones(2, WIDTH), renewal) == 0
    assert torch.equal(rows, before.index_fill(0, torch.tensor([3, 8]), 1.0))


def test_pixels_are_cut_in_raster_order() -> None:
    """Patch by patch, each with its own pixels; a copy, for a simulator may draw over the view."""
    view = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    cut = pixels_of(view, 2)
    view_was, view[:] = view.copy(), 0

    assert cut.shape == (4, 2 * 3 * 3)
    assert np.array_equal(cut[1].reshape(2, 3, 3), view_was[:2, 3:])
    assert np.array_equal(cut[2].reshape(2, 3, 3), view_was[2:, :3])
