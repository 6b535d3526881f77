from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.reuse.pruning_settings import FastVSettings
from stillframe.reuse.settings import PaperSettings, ReuseSettings
from stillframe_lab.ablation.filmstrip import GAP_PX, HEAD_PX, patch_marks
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.methods.strip import MARGIN_PX, SHOWN, marked, strip

MASKED = ReuseSettings("paper", paper=PaperSettings(relevance="masks", k=None, tau=-1.0, top_k=200))
FASTV = ReuseSettings("fastv", fastv=FastVSettings(1, 0.75))
PATCHES = 256  # of a camera


@pytest.fixture(scope="module")
def model(oft_folder: Path) -> PolicyModel:
    """Two pictures and a state."""
    return load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"))


def frames(model: PolicyModel, count: int) -> list[Mapping[str, Any]]:
    """Of one scene, all of the second camera's picture masked."""
    random = np.random.default_rng(0)
    size = (*model.info.image_size, 3)
    first, second = model.info.cameras
    pictures = {camera: random.integers(0, 255, size, np.uint8) for camera in (first, second)}
    masks = {first: np.zeros(size[:2], bool), second: np.ones(size[:2], bool)}
    observed = {"images": pictures, "instruction": "pick it up", "state": np.zeros(8), "masks": masks}
    return [observed] * count


def counts(model: PolicyModel, reuse: ReuseSettings) -> dict[str, tuple[int, int, int]]:
    """Of the second of two equal frames, camera by camera: patches that are relevant, reused and pruned."""
    actor = LocalActor(model, reuse, measure_every=0)
    for observed in frames(model, 2):
        actor(observed)
    marks = patch_marks(model, actor, observed)
    return {camera: tuple(int(grid.sum()) for grid in (own.relevant, own.reused, own.pruned))
            for camera, own in marks.items()}  # fmt: skip


def test_marks_are_what_an_arm_does_to_each_cameras_patches(model: PolicyModel) -> None:
    """Masked ones are relevant, so many of the others are reused; pruned ones are those of no later layer."""
    first, second = model.info.cameras
    pruned = counts(model, FASTV)

    assert counts(model, MASKED) == {first: (0, 200, 0), second: (PATCHES, 0, 0)}
    assert pruned[first][2] + pruned[second][2] == 2 * PATCHES * 3 / 4
    assert pruned[first][:2] == pruned[second][:2] == (0, 0)
    assert counts(model, replace(FASTV, mode="off")) == {first: (0, 0, 0), second: (0, 0, 0)}


def test_a_marked_picture_shows_them(model: PolicyModel) -> None:
    """Another colour over each, and none over what is just computed."""
    actor, picture = LocalActor(model, MASKED, measure_every=0), np.full((224, 224, 3), 120, np.uint8)
    for observed in frames(model, 2):
        actor(observed)
    first, second = patch_marks(model, actor, observed).values()
    computed, pale = (marked(picture, first)[::14, ::14].reshape(-1, 3)[own.reshape(-1)].min(axis=0).tolist()
                      for own in (~first.reused, first.reused))  # fmt: skip

    assert computed == [120, 120, 120]
    assert min(pale) > 200
    red, _, blue = marked(picture, second)[0, 0]
    assert red > 160 > 100 > blue


def test_a_strip_has_a_row_for_each_arm(model: PolicyModel) -> None:
    """And a column for each of some frames, both cameras beside each other; a short episode has fewer."""
    height, width = model.info.image_size
    row, column = height + GAP_PX, 2 * width + GAP_PX
    for played, shown in ((8, SHOWN), (3, 2), (1, 1)):
        card = strip(model, {"masks": MASKED, "fastv": FASTV}, frames(model, played), 4)

        assert card.size == (MARGIN_PX + shown * column, HEAD_PX + 3 * row + HEAD_PX)
    cells = np.asarray(card)[HEAD_PX:, MARGIN_PX:]
    assert np.array_equal(cells[:height, : 2 * width], np.hstack([*frames(model, 1)[0]["images"].values()]))
