from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe_lab.train.auxiliary import KEYPOINTS
from stillframe_lab.train.batches import BatchSource
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import PREPROCESSOR_JSON

PIPELINE = PixelPipeline.from_config(PREPROCESSOR_JSON)


def source(demos: list[FrameStore], rounds: list[FrameStore], *, draw: float = 0.4, noise: float = 0.0) -> BatchSource:
    """A source with these shares."""
    return BatchSource(demos, rounds, PIPELINE, dagger_draw=draw, noise_max=noise)


def every(stores: list[FrameStore]) -> torch.Tensor:
    """All pictures of the stores as the daemon normalises them, [frames, cameras, 6, H, W]."""
    frames = [frame for store in stores for frame in store.images]
    return torch.stack([torch.stack([PIPELINE.normalised(image) for image in frame]) for frame in frames])


def which(pixels: torch.Tensor, stores: list[FrameStore]) -> list[int]:
    """Which frame of the stores each of these [batch, 1, 6, H, W] is, by a few of its pixels."""
    known = every(stores)
    apart = pixels[..., ::32, ::32] - known[None, :, 0, :, ::32, ::32]
    return apart.abs().amax((2, 3, 4)).argmin(1).tolist()


def test_pixels_are_normalised_as_the_daemon_will(demos: list[FrameStore]) -> None:
    """Training sees what serving computes, within fp32 rounding, with the labels of the same frame."""
    batch = source(demos, []).draw(12, np.random.default_rng(0))
    frames = which(batch.pixels, demos)
    exact = every(demos)[frames]
    actions = torch.from_numpy(np.concatenate([store.labels.actions for store in demos]))[frames]

    torch.testing.assert_close(batch.pixels, exact, rtol=0, atol=2e-6)
    assert torch.equal(batch.actions, actions)
    assert batch.keypoints.uv.shape == (12, KEYPOINTS, 2)


def test_a_frames_cameras_stay_together(tmp_path: Path, fill: Callable) -> None:
    """With two cameras a batch holds both pictures of each frame, in the recipe's order."""
    store = fill(tmp_path, 4, seed=6, cameras=2)
    batch = source([store], []).draw(8, np.random.default_rng(0))
    wanted, known = torch.from_numpy(store.labels.actions), every([store])
    drawn = [int((wanted == actions).all((1, 2)).nonzero()) for actions in batch.actions]

    assert batch.pixels.shape == (8, 2, 6, 224, 224)
    assert len(set(drawn)) > 1
    torch.testing.assert_close(batch.pixels, known[drawn], rtol=0, atol=2e-6)


def test_every_frame_is_drawn_alike(demos: list[FrameStore]) -> None:
    """Frames count, not stores: a store of three and one of five give each frame the same chance."""
    draw = source(demos, [])
    rng = np.random.default_rng(1)
    picks = [draw._pick(rng) for _ in range(4000)]
    counts = np.bincount([index + 3 * (store is demos[1]) for store, index in picks], minlength=8)

    assert counts.min() > 400
    assert counts.max() < 600


@pytest.mark.parametrize(("draw", "share"), [(0.0, 0.0), (1.0, 1.0), (0.4, 0.4)])
def test_rounds_are_drawn_by_their_share(
    tmp_path: Path, demos: list[FrameStore], fill: Callable, draw: float, share: float
) -> None:
    """DAgger's frames make up the share asked for, however few they are."""
    rounds = [fill(tmp_path, 1, seed=9)]
    drawn = source(demos, rounds, draw=draw)
    rng = np.random.default_rng(2)
    hits = sum(drawn._pick(rng)[0] is rounds[0] for _ in range(1000))

    assert hits / 1000 == pytest.approx(share, abs=0.05)


def test_half_of_the_pictures_are_noisy(demos: list[FrameStore]) -> None:
    """Noise lies on about half of them, in whole grey levels, and is as strong as allowed."""
    batch = source(demos, [], noise=3.0).draw(40, np.random.default_rng(3))
    frames = which(batch.pixels, demos)
    clean = every(demos)[frames]
    grey = (batch.pixels - clean)[:, 0, 3:] * 0.5 * 255
    spoilt = grey.abs().amax((1, 2, 3)) > 0.5

    assert 10 < spoilt.sum() < 30
    assert (grey - grey.round()).abs().max() < 1e-3
    assert 0.5 < grey[spoilt].std() < 3.0


def test_a_batch_follows_from_its_seed(demos: list[FrameStore]) -> None:
    """The same generator gives the same pictures, noise included; another gives others."""
    first, again, other = (source(demos, [], noise=3.0).draw(4, np.random.default_rng(seed)) for seed in (5, 5, 6))

    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
