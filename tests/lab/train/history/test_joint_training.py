from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stillframe.history.checkpoint import load_history
from stillframe_lab.train.history.checkpoint import new_memory_weights, save_policy
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.joint_training import JointProgress, JointTrainer
from stillframe_lab.train.history.policy_training import memory_trainee
from stillframe_lab.train.history.recipe import JointRecipe

CPU = torch.device("cpu")


@pytest.fixture
def start(tmp_path: Path, joint_recipe: JointRecipe) -> Path:
    """A policy that has learnt nothing, and a gate neither."""
    torch.manual_seed(6)
    tmp_path.joinpath("start").mkdir()
    trainee = memory_trainee(tmp_path / "start", joint_recipe.memory, None)
    save_policy(tmp_path / "start", trainee, new_memory_weights(trainee, joint_recipe.memory), joint_recipe.memory)
    return tmp_path / "start"


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, joint_recipe: JointRecipe, scenery: SceneDataset, start: Path
) -> None:
    """Two steps in one go and one after the other give the same weights to the bit, those of the scorers too."""
    said: list[JointProgress] = []
    whole = JointTrainer(tmp_path / "whole", joint_recipe, start)
    whole.run(scenery, 2, said.append)
    for until in (1, 2):
        JointTrainer(tmp_path / "parts", joint_recipe, start).run(scenery, until, said.append)
    parts = JointTrainer(tmp_path / "parts", joint_recipe, start)

    assert parts.step == 2
    for name, tensor in whole.ema.weights.items():
        assert torch.equal(tensor, parts.ema.weights[name]), name
    assert [progress.step for progress in said] == [2, 1, 2]


def test_the_policy_has_a_rate_of_its_own(
    tmp_path: Path, joint_recipe: JointRecipe, scenery: SceneDataset, start: Path
) -> None:
    """Of none at all, only the scorers learn."""
    joining = JointTrainer(tmp_path / "run", replace(joint_recipe, policy_share=0.0), start)
    before = {name: tensor.clone() for name, tensor in joining.trainee.named_parameters()}
    joining.run(scenery, 1, lambda _: None)
    moved = {name.split(".")[0] for name, now in joining.trainee.named_parameters() if not now.equal(before[name])}

    assert moved == {"scorers"}


def test_what_is_written_is_what_was_learnt(
    tmp_path: Path, joint_recipe: JointRecipe, scenery: SceneDataset, start: Path
) -> None:
    """The EMA's pooling and scorers, in a folder of their own; what it began with stays as it was."""
    before = (start / "memory.safetensors").read_bytes()
    joining = JointTrainer(tmp_path / "run", joint_recipe, start)
    joining.run(scenery, 1, lambda _: None)
    joining.export(tmp_path / "out")
    weights, slow = load_history(tmp_path / "out", CPU), joining.ema.weights

    assert torch.equal(weights.pooling.query, slow["pooling.query"])
    assert torch.equal(weights.gate.outward.weight, slow["scorers.gate.outward.weight"])
    assert not torch.equal(weights.gate.outward.weight, load_history(start, CPU).gate.outward.weight)
    assert (start / "memory.safetensors").read_bytes() == before
