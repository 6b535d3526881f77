from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.history.checkpoint import load_history
from stillframe.models.registry import load_policy
from stillframe_lab.train.history import pipeline
from stillframe_lab.train.history.checkpoint import new_memory_weights, save_policy
from stillframe_lab.train.history.dataset import SceneDataset, Scenes
from stillframe_lab.train.history.episodes import load_episodes, save_episodes
from stillframe_lab.train.history.gate_training import LabelledEpisode
from stillframe_lab.train.history.policy_training import HistoryCloningTrainer
from stillframe_lab.train.history.recipe import JointRecipe, MemoryRecipe

CPU = torch.device("cpu")


class Silent:
    """A Reporter that notes the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, line: str, steps: int) -> None:  # noqa: ARG002 (the seam's shape)
        """Note it."""
        self.stages.append(line)

    def _said(self, *said: object) -> None:
        """Nothing."""

    policy = episodes = gate = together = _said


def test_what_is_published_is_what_was_learnt(
    tmp_path: Path, memory_recipe: MemoryRecipe, scenery: SceneDataset
) -> None:
    """The EMA's network as the family's checkpoint, which loads, and its pooling in the memory beside it."""
    cloning = HistoryCloningTrainer(tmp_path / "run", memory_recipe, CPU)
    cloning.run(scenery, 2, lambda _: None)
    trainee = cloning.averaged_trainee()
    save_policy(tmp_path / "out", trainee, new_memory_weights(trainee, memory_recipe), memory_recipe)
    model, weights = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU), load_history(tmp_path / "out", CPU)

    assert model.info.image_size == (28, 28)
    assert weights.config.chunk_tokens == 4
    assert torch.equal(weights.pooling.query, trainee.pooling.query)
    assert torch.equal(weights.pooling.query, cloning.ema.weights["pooling.query"])


def test_finished_parts_are_not_done_again(
    tmp_path: Path, joint_recipe: JointRecipe, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run finds the policy, the episodes, the gate and what both became together, and changes nothing."""
    corrections = {"mistakes": (("ordered", 4),), "corrected": (2, 1e-3)}
    recipe = replace(joint_recipe, memory=replace(joint_recipe.memory, gate_steps=3, **corrections))
    inputs = load_inputs(recipe.memory)
    monkeypatch.setattr(pipeline, "load_scenes", lambda *_: scenes)
    monkeypatch.setattr(pipeline, "record_episodes", lambda *_: [LabelledEpisode(inputs, torch.rand(5))] * 5)
    first, second = Silent(), Silent()
    policy = pipeline.train_memory(tmp_path / "run", tmp_path, recipe, CPU, first, None)
    gate = load_history(policy, CPU).state_dict()
    pipeline.train_memory(tmp_path / "run", tmp_path, recipe, CPU, second, None)

    assert first.stages == ["cloning", "mistakes", "cloning", "episodes", "gate", "together"]
    assert second.stages == ["gate"]
    assert all(torch.equal(tensor, gate[name]) for name, tensor in load_history(policy, CPU).state_dict().items())
    assert gate["gate.outward.weight"].any()
    pipeline.publish(policy, tmp_path / "run", recipe, tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"model.safetensors", "memory.safetensors", "loss.png", "gate.png", "together.png", "training.json"}


def load_inputs(recipe: MemoryRecipe) -> torch.Tensor:
    """Five chunks as a scorer sees them."""
    width = 2 * len(recipe.taps) * recipe.policy.width + 8
    return torch.from_numpy(np.random.default_rng(1).normal(size=(5, width)).astype(np.float32))


def test_episodes_are_kept_as_they_were(tmp_path: Path) -> None:
    """Of different lengths, in their order."""
    episodes = [LabelledEpisode(torch.rand(count, 3), torch.rand(count)) for count in (4, 1, 7)]
    save_episodes(tmp_path / "episodes.npz", episodes)

    for kept, one in zip(load_episodes(tmp_path / "episodes.npz"), episodes, strict=True):
        assert torch.equal(kept.inputs, one.inputs)
        assert torch.equal(kept.worth, one.worth)
