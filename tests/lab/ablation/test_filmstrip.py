from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_lab.ablation.filmstrip import GAP_PX, HEAD_PX, MARGIN_PX, ROWS, StripFrame, strip, write_strip
from stillframe_lab.ablation.plan import AblationPlan

SIDE = 64


def shot(step: int, patch: tuple[int, int]) -> StripFrame:
    """A grey picture of four by four patches, one of which is static, relevant and recomputed."""
    grid = np.zeros((4, 4), bool)
    grid[patch] = True
    return StripFrame(step, np.full((SIDE, SIDE, 3), 100, np.uint8), grid, grid, grid)


def cell_of(card: Image.Image, column: int, row: int) -> np.ndarray:
    """One picture of the strip."""
    left, top = MARGIN_PX + column * (SIDE + GAP_PX), HEAD_PX + row * (SIDE + GAP_PX)
    return np.asarray(card, int)[top : top + SIDE, left : left + SIDE]


def test_a_strip_shows_patches_where_they_are() -> None:
    """The frame untouched; static and relevant patches coloured; what was not recomputed pale."""
    card = strip([shot(3, (0, 0)), shot(9, (2, 1))])

    assert card.size == (MARGIN_PX + 2 * (SIDE + GAP_PX), HEAD_PX + len(ROWS) * (SIDE + GAP_PX))
    assert (cell_of(card, 1, 0) == 100).all()
    for row in (1, 2):
        touched = (cell_of(card, 1, row) != 100).any(-1)
        assert touched[32:48, 16:32].all()
        assert touched.sum() == 16 * 16
    pale = cell_of(card, 1, 3) > 150
    assert not pale[32:48, 16:32].any()
    assert pale.all(-1).sum() == SIDE * SIDE - 16 * 16
    assert (cell_of(card, 0, 1)[:16, :16] != 100).any()


@pytest.mark.usefixtures("needs_gl")
def test_a_strip_is_made_of_an_episodes_plans(
    golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five columns; some patches of a delta frame are pale, for they were reused, and not all are."""
    monkeypatch.setattr("stillframe_lab.ablation.filmstrip.JacoEnv", partial(JacoEnv, max_steps=12))
    knobs = AdaptiveSettings(distance=2.0, top_k=128, task_top_k=20, age_limit=100, keyframe_every=1000, scene_cut=0.0)
    write_strip(
        tmp_path / "strip.png", AblationPlan(ReuseSettings(adaptive=knobs, drift_budget=2.0), golden_folder, tmp_path)
    )
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"), int)
    side = 224
    assert pixels.shape[:2] == (HEAD_PX + 4 * (side + GAP_PX), MARGIN_PX + 5 * (side + GAP_PX))

    frame = pixels[HEAD_PX:, MARGIN_PX:][:side, :side]
    recomputed = pixels[HEAD_PX + 3 * (side + GAP_PX) :, MARGIN_PX:][:side, :side]
    share = (frame != recomputed).any(-1).mean()
    assert 0.4 < share < 0.6
