from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stillframe.errors import ConfigError
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.policy_training import HistoryCloningTrainer, MemoryProgress
from stillframe_lab.train.history.recipe import MemoryRecipe

CPU = torch.device("cpu")


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, memory_recipe: MemoryRecipe, scenery: SceneDataset
) -> None:
    """Six steps in one go and two times three give the same weights to the bit, and the log has every line once."""
    said: list[MemoryProgress] = []
    whole = HistoryCloningTrainer(tmp_path / "whole", memory_recipe, CPU)
    whole.run(scenery, 6, said.append)
    for until in (3, 6):
        HistoryCloningTrainer(tmp_path / "parts", memory_recipe, CPU).run(scenery, until, said.append)
    parts = HistoryCloningTrainer(tmp_path / "parts", memory_recipe, CPU)

    assert parts.step == 6
    for name, tensor in whole.ema.weights.items():
        assert torch.equal(tensor, parts.ema.weights[name]), name
    assert [progress.step for progress in said] == [6, 3, 6]
    assert len((tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_run_of_another_recipe_is_not_gone_on_with(
    tmp_path: Path, memory_recipe: MemoryRecipe, scenery: SceneDataset
) -> None:
    """A changed recipe needs a new folder."""
    HistoryCloningTrainer(tmp_path, memory_recipe, CPU).run(scenery, 1, lambda _: None)

    with pytest.raises(ConfigError, match="another recipe"):
        HistoryCloningTrainer(tmp_path, replace(memory_recipe, slots=1), CPU)
