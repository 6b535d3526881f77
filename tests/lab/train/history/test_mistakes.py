from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.errors import ConfigError
from stillframe.models.actions import Statistics
from stillframe_lab.train.history.checkpoint import new_memory_weights, save_policy
from stillframe_lab.train.history.dataset import SceneDataset, Scenes
from stillframe_lab.train.history.mistakes import WantedMistakes, mistakes_in
from stillframe_lab.train.history.policy_training import HistoryCloningTrainer
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.history.sampling import NOTHING
from stillframe_lab.train.new_checkpoint import UNNORM_KEY, action_statistics

SCALE = Statistics(action_statistics()).scales[UNNORM_KEY]
WANTED = WantedMistakes("ordered", 5, 2, 28)


@pytest.fixture
def checkpoint(tmp_path: Path, memory_recipe: MemoryRecipe) -> Path:
    """A policy that has learnt nothing."""
    trainee = HistoryCloningTrainer(tmp_path / "run", memory_recipe, torch.device("cpu")).averaged_trainee()
    save_policy(tmp_path / "policy", trainee, new_memory_weights(trainee, memory_recipe), memory_recipe)
    return tmp_path / "policy"


def test_a_policys_own_scenes(tmp_path: Path, checkpoint: Path) -> None:
    """So many free steps of it, dark and as the expert would go on, and found again without the policy."""
    counted: list[int] = []
    scenes = mistakes_in(tmp_path / "kept", WANTED, checkpoint, SCALE, counted.append)
    again = mistakes_in(tmp_path / "kept", WANTED, tmp_path / "gone", SCALE, counted.append)

    assert counted[-1] == len(scenes.images) == 5
    assert scenes.played.all()
    assert (scenes.shown == NOTHING).all()
    assert not scenes.late.any()
    assert scenes.actions.shape == (5, 3, 7)
    assert len({picture.tobytes() for picture in scenes.images}) == 5
    assert np.array_equal(again.images, scenes.images)


def test_other_wishes_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    """A folder holds what it was made for."""
    mistakes_in(tmp_path / "kept", WANTED, checkpoint, SCALE, lambda _: None)

    with pytest.raises(ConfigError):
        mistakes_in(tmp_path / "kept", WantedMistakes("ordered", 5, 3, 28), checkpoint, SCALE, lambda _: None)


def test_half_of_what_is_acted_on_was_played(scenes: Scenes, memory_recipe: MemoryRecipe) -> None:
    """Where there are played scenes; and in any batch as many pictures as the recipe says."""
    played = np.isin(np.arange(len(scenes.images)), np.flatnonzero(scenes.shown == NOTHING)[:3])
    marked = Scenes.joined([scenes.of(np.flatnonzero(~played)), scenes.of(np.flatnonzero(played))])
    flags = np.arange(len(marked.images)) >= len(marked.images) - 3
    named = Scenes(*(getattr(marked, name) for name in Scenes.__dataclass_fields__ if name != "played"), flags)
    names = {picture.tobytes() for picture in named.images[flags]}
    drawer, seen = SceneDataset(named, replace(memory_recipe, ordered_share=0.0)), []
    drawer.normalised = lambda images, _: seen.append(images) or torch.zeros(len(images), 6, 28, 28)  # type: ignore[method-assign,func-returns-value]  # to see which
    drawer.draw(np.random.default_rng(2))

    assert sum(picture.tobytes() in names for picture in seen[0][: memory_recipe.policy.batch_images]) == 3
