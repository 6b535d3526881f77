from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from stillframe.reuse.settings import AdaptiveSettings, PaperSettings
from stillframe.reuse.similarity import (
    NOISE_FLOOR,
    Cosine,
    Criterion,
    Embedding,
    IdenticalPrefix,
    PatchTokens,
    Pixels,
    Similarity,
    patch_pixels,
)

GRID, PX = 4, 16
SIDE = GRID * PX
KNOBS, PAPERS = AdaptiveSettings(), PaperSettings()
OURS = Pixels(KNOBS.tau, KNOBS.tau_centred, KNOBS.max_difference)
PUBLISHED = Cosine(PAPERS.tau)
EMBEDDING = Embedding(KNOBS.distance)
EXACT = IdenticalPrefix()
EVERY = [OURS, PUBLISHED, EMBEDDING, EXACT]
NAMES = ["pixels", "published", "embedding", "exact"]
EYES = torch.randn(PX * PX * 3, 32, generator=torch.Generator().manual_seed(2))

Picture = NDArray[np.uint8]


def scene(seed: int = 0) -> Picture:
    """A textured picture in lit greys: blocks of 4 px from 70 to 210."""
    blocks = np.random.default_rng(seed).integers(70, 211, (SIDE // 4, SIDE // 4, 3))
    return np.kron(blocks, np.ones((4, 4, 1))).astype(np.uint8)


def tokens(picture: Picture) -> PatchTokens:
    """Its patches, and rows that are a mixture of each patch's normalised pixels."""
    pixels = patch_pixels([picture], (GRID, GRID))
    return PatchTokens((pixels.float() / 127.5 - 1) @ EYES, pixels)


def compared(criterion: Criterion, now: Picture, before: Picture) -> list[bool]:
    """Which patches are static."""
    return list(criterion(tokens(now), tokens(before)).static.tolist())


def alone(now: list[float], before: list[float], criterion: Criterion) -> tuple[float, bool]:
    """Distance and verdict for one patch of a few grey levels."""
    found = criterion(*(PatchTokens(torch.zeros(1, 1), torch.tensor([p], dtype=torch.uint8)) for p in (now, before)))
    return float(found.distance), bool(found.static)


def test_patches_are_cut_in_raster_order_camera_after_camera() -> None:
    """Token number row * columns + column of each view holds that patch's pixels, row by row, channels last."""
    views = [np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8) for seed in (0, 1)]
    pixels = patch_pixels(views, (3, 2))

    assert pixels.shape == (12, 2 * 4 * 3)
    assert pixels.dtype == torch.uint8
    assert pixels[3].tolist() == views[0][2:4, 4:8].reshape(-1).tolist()
    assert pixels[6 + 4].tolist() == views[1][4:6, 0:4].reshape(-1).tolist()


@pytest.mark.parametrize("criterion", EVERY, ids=NAMES)
@pytest.mark.parametrize(
    "picture", [scene(), np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 90, np.uint8)]
)
def test_identical_frames_are_static_throughout(criterion: Criterion, picture: Picture) -> None:
    """Nothing moved, nothing changed: no exception, also where a patch is black or flat."""
    found = criterion(tokens(picture), tokens(picture.copy()))

    assert all(found.static)
    assert found.distance.abs().max() < 1e-6


@pytest.mark.parametrize("criterion", EVERY, ids=NAMES)
def test_one_changed_patch_is_found_and_no_other(criterion: Criterion) -> None:
    """Each patch is judged by itself (the exact criterion also takes all after it)."""
    now = scene()
    now[PX : 2 * PX, 2 * PX : 3 * PX] = scene(1)[:PX, :PX]
    moved = [number for number, static in enumerate(compared(criterion, now, scene())) if not static]

    assert moved == ([*range(6, 16)] if criterion is EXACT else [6])


@pytest.mark.parametrize("criterion", EVERY, ids=NAMES)
@pytest.mark.parametrize("other", ["cut", "black", "from-black"])
def test_another_scene_and_a_black_frame_are_static_nowhere(criterion: Criterion, other: str) -> None:
    """A scene cut, a camera that goes dark and one that comes back; the published code raises there."""
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    now, before = {"cut": (scene(7), scene()), "black": (black, scene()), "from-black": (scene(), black)}[other]

    assert not any(compared(criterion, now, before))


@pytest.mark.parametrize("criterion", [OURS, EMBEDDING, EXACT], ids=["pixels", "embedding", "exact"])
def test_dimming_is_a_change(criterion: Criterion) -> None:
    """At 60 % of the light no patch is what it was, although its raw pixels point the same way."""
    assert not any(compared(criterion, (scene() * 0.6).astype(np.uint8), scene()))


@pytest.mark.parametrize("criterion", [OURS, EMBEDDING, EXACT], ids=["pixels", "embedding", "exact"])
def test_a_shift_by_two_pixels_is_a_change(criterion: Criterion) -> None:
    """Every textured patch moved with the camera."""
    assert not any(compared(criterion, np.roll(scene(), 2, axis=1), scene()))


def test_the_published_cosine_misses_dimming_as_published() -> None:
    """Mode paper keeps VLA-Cache's criterion, blind spot included: that is what a comparison wants to see."""
    assert all(compared(PUBLISHED, (scene() * 0.6).astype(np.uint8), scene()))


def test_a_shift_of_little_contrast_is_seen_only_without_the_mean() -> None:
    """Bright patches of low contrast look alike to the raw cosine after a shift; the centred one tells them apart."""
    bright = (180 + (scene().astype(int) - 140) // 4).astype(np.uint8)
    shifted = np.roll(bright, 2, axis=1)

    assert all(compared(PUBLISHED, shifted, bright))
    assert not any(compared(OURS, shifted, bright))


def noisy(picture: Picture, seed: int, sigma: float = 2.0) -> Picture:
    """The picture through a sensor."""
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("level", [40, 120, 230])
@pytest.mark.parametrize("both", [True, False], ids=["both", "one"])
def test_noise_on_a_flat_patch_is_no_change(level: int, *, both: bool) -> None:
    """Two shots of a bare table, sigma 2 grey levels: static, although with the mean off only the noise is left."""
    flat = np.full((SIDE, SIDE, 3), level, np.uint8)

    assert all(compared(OURS, noisy(flat, 1), noisy(flat, 2) if both else flat))


@pytest.mark.parametrize("criterion", [OURS, PUBLISHED, EMBEDDING], ids=["pixels", "published", "embedding"])
def test_noise_on_texture_is_no_change(criterion: Criterion) -> None:
    """Sigma 2 on a lit scene leaves every patch static: but for the exact criterion, to which any bit counts."""
    assert all(compared(criterion, noisy(scene(), 1), noisy(scene(), 2)))
    assert not any(compared(EXACT, noisy(scene(), 1), noisy(scene(), 2)))


def test_the_cosine_is_the_papers_on_raw_pixels() -> None:
    """By hand: (3, 4) against (4, 3) is 24 / 25; the threshold itself is still static."""
    assert alone([3, 4], [4, 3], Cosine(0.96 - 1e-6)) == (pytest.approx(0.04, abs=1e-6), True)
    assert alone([3, 4], [4, 3], Cosine(0.97))[1] is False
    assert alone([0, 0], [0, 0], Cosine(0.97)) == (0, True)
    assert alone([0, 0], [1, 0], Cosine(0.01))[1] is False


def test_each_of_the_three_pixel_tests_can_decide() -> None:
    """Raw cosine, centred cosine and largest difference: each alone turns a patch away that the others let pass."""
    lax = {"least_cosine": -1.0, "least_centred": -1.0, "most_difference": 255.0}
    now, before = [100, 200, 100, 200], [200, 100, 200, 100]

    assert alone(now, before, Pixels(**lax))[1] is True
    assert alone(now, before, Pixels(**lax | {"least_cosine": 0.9}))[1] is False
    assert alone(now, before, Pixels(**lax | {"least_centred": 0.0}))[1] is False
    assert alone(now, before, Pixels(**lax | {"most_difference": 99.0}))[1] is False
    assert alone(now, before, Pixels(**lax | {"most_difference": 100.0}))[1] is True


@pytest.mark.parametrize(
    ("now", "before"), [([3, 4], [4, 3]), ([100, 200, 100, 200], [200, 100, 200, 100]), ([200, 40], [100, 20])]
)
def test_the_pixel_distance_is_by_the_worse_of_the_cosines(now: list[float], before: list[float]) -> None:
    """One minus the raw cosine or the centred one, by hand, whichever is the smaller."""
    ours, theirs = np.array(now, float), np.array(before, float)
    raw = ours @ theirs / np.sqrt(ours @ ours * (theirs @ theirs))
    ours, theirs, floor = ours - ours.mean(), theirs - theirs.mean(), len(now) * NOISE_FLOOR**2
    centred = (ours @ theirs + floor) / np.sqrt((ours @ ours + floor) * (theirs @ theirs + floor))

    assert raw != centred
    assert alone(now, before, OURS)[0] == pytest.approx(1 - min(raw, centred), abs=1e-5)


def test_a_limit_itself_is_still_static() -> None:
    """Black patches have cosines of exactly one and differ by nothing; equal rows are at distance zero."""
    rows = PatchTokens(torch.ones(1, 4), None)

    assert alone([0, 0], [0, 0], Cosine(1.0))[1]
    assert alone([0, 0], [0, 0], Pixels(1.0, 1.0, 0.0))[1]
    assert Embedding(0.0)(rows, rows).static.tolist() == [True]


def test_one_bright_pixel_is_a_difference_either_way() -> None:
    """The largest of all pixels' differences counts, whether it got lighter or darker."""
    lax = Pixels(-1.0, -1.0, 50.0)

    assert not alone([100, 100, 100, 151], [100, 100, 100, 100], lax)[1]
    assert not alone([100, 100, 100, 49], [100, 100, 100, 100], lax)[1]


def test_the_noise_floor_is_per_pixel() -> None:
    """A patch of ten times as many pixels, all alike, is as like its reference as a small one."""
    now, before = [110, 90], [100, 100]

    assert alone(now * 10, before * 10, OURS)[0] == pytest.approx(alone(now, before, OURS)[0], abs=1e-5)


def test_an_exact_distance_is_zero_where_it_is_static() -> None:
    """One for what changed and for all behind it."""
    before = torch.arange(6.0).view(3, 2)
    now = before.clone()
    now[1, 0] += 1

    assert EXACT(PatchTokens(now, None), PatchTokens(before, None)).distance.tolist() == [0, 1, 1]


def test_the_embedding_distance_is_relative() -> None:
    """|now - reference| / |reference|, by hand; the limit itself is static; a zero reference divides nothing."""
    reference = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    now = torch.tensor([[3.0, 4.5], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = Embedding(0.1)(PatchTokens(now, None), PatchTokens(reference, None))

    assert found.distance[:3].tolist() == pytest.approx([0.1, 1, 0])
    assert found.static.tolist() == [bool(found.distance[0] <= 0.1), False, True, False]
    assert Embedding(0.11)(PatchTokens(now, None), PatchTokens(reference, None)).static[0]


def test_the_embedding_distance_of_bfloat16_rows_is_taken_in_fp32() -> None:
    """Squares of many bfloat16 numbers do not lose the small change."""
    reference = torch.ones(1, 3500, dtype=torch.bfloat16)  # whose norm is no bfloat16 number
    now = reference * 1.0625
    found = EMBEDDING(PatchTokens(now, None), PatchTokens(reference, None))

    assert found.distance.dtype == torch.float32
    assert float(found.distance) == pytest.approx(0.0625, rel=1e-4)


def test_rows_see_what_pixels_do_not() -> None:
    """The towers attend globally: equal pixels with another row are static to pixels and moved to the embedding."""
    still = tokens(scene())
    moved = PatchTokens(still.rows * 1.5, still.pixels)

    assert all(OURS(moved, still).static)
    assert not any(EMBEDDING(moved, still).static)


@settings(max_examples=settings().max_examples // 2)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_the_exact_criterion_stops_at_the_first_bit(same: list[bool]) -> None:
    """What stands behind a changed row depends on it under a causal mask, so it is not static, whatever it is."""
    before = torch.randn(len(same), 3, generator=torch.Generator().manual_seed(1))
    now = before + torch.tensor(same).logical_not()[:, None] * 1e-6
    static = EXACT(PatchTokens(now, None), PatchTokens(before, None)).static.tolist()
    first = same.index(False) if False in same else len(same)

    assert static == [True] * first + [False] * (len(same) - first)


@pytest.mark.parametrize("criterion", EVERY, ids=NAMES)
def test_a_criterion_says_whether_it_needs_pixels(criterion: Criterion) -> None:
    """Where it needs none it does without; where it does it says so rather than guess."""
    bare: tuple[PatchTokens, PatchTokens] = (PatchTokens(torch.ones(2, 3), None), PatchTokens(torch.ones(2, 3), None))

    if criterion.needs_pixels:
        with pytest.raises(ValueError, match="compares pixels, and the tokens carry none"):
            criterion(*bare)
    else:
        assert all(criterion(*bare).static)


@settings(max_examples=settings().max_examples // 3)
@given(seed=st.integers(0, 1000), mix=st.floats(0, 1))
def test_smaller_distances_are_more_alike(seed: int, mix: float) -> None:
    """A patch half-way to another scene is nearer than the other scene itself; no distance is negative or NaN."""
    near = tokens((scene() * (1 - mix / 2) + scene(seed) * (mix / 2)).astype(np.uint8))
    far, reference = tokens(scene(seed + 1)), tokens(scene())
    for criterion in (OURS, PUBLISHED, EMBEDDING):
        found: Similarity = criterion(near, reference)
        other: Tensor = criterion(far, reference).distance
        assert found.distance.isfinite().all()
        assert found.distance.min() > -1e-6
        assert found.distance.mean() < other.mean() or seed == 0
