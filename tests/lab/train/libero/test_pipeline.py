from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.models.registry import load_policy
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.demonstrations import load_imitator
from stillframe_lab.train.libero import pipeline
from stillframe_lab.train.libero.leader import LEADS, PolicyLeader
from stillframe_lab.train.libero.oft import LiberoOFTTrainer
from stillframe_lab.train.libero.openvla import LiberoTokenTrainer
from stillframe_lab.train.libero.policy import LiberoPolicy
from stillframe_lab.train.libero.recipe import LIBERO_TINY, LIBERO_TINY_OFT, LiberoRecipe
from stillframe_lab.train.places import Places
from stillframe_lab.train.policies import POLICIES

CPU = torch.device("cpu")


class Quiet:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages, self.steps = list[str](), list[int]()

    def stage(self, line: str) -> None:
        """A stage begins."""
        self.stages.append(line)

    def progress(self, trained: Progress) -> None:
        """A line of the log."""
        self.steps.append(trained.step)


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["oft", "token"])
def test_the_whole_recipe_runs_once(
    kind: str,
    tmp_path: Path,
    toy,  # type: ignore[no-untyped-def]  # conftest's
    oft_recipe: LiberoRecipe,
    token_recipe: LiberoRecipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Demonstrations, a round that the policy leads, a checkpoint that is served; the second time nothing is made."""
    monkeypatch.setattr(pipeline, "simulator", lambda: toy)
    monkeypatch.setattr("stillframe_lab.train.libero.leader.LEADS", (2, 4))
    recipe, trainer = (oft_recipe, LiberoOFTTrainer) if kind == "oft" else (token_recipe, LiberoTokenTrainer)
    policy = LiberoPolicy(recipe, trainer, "jaco-tiny", "loss")
    places = Places(tmp_path / "run", tmp_path / "data", tmp_path / "out", None)
    first, again = Quiet(), Quiet()
    policy.train(places, CPU, 1, first)
    scenes = len(toy.asked)
    policy.train(places, CPU, 1, again)
    figures = json.loads((tmp_path / "out" / "training.json").read_text())

    assert [line.split(":")[0] for line in first.stages] == ["demonstrations", "DAgger round 1"]
    assert (len(toy.asked), again.stages) == (scenes, [])
    assert all(init_state is None for init_state, _ in toy.asked)
    assert len([*(tmp_path / "data").glob("*/task-*/demo-*.npz")]) == 20
    assert len([*(tmp_path / "run" / "dagger-0").glob("task-*/demo-*.npz")]) == 10
    assert figures["last"]["step"] == recipe.steps
    assert json.loads((tmp_path / "out" / "config.json").read_text())["libero_pictures"] == "fast"
    assert load_policy(tmp_path / "out", dtype=torch.float32, device=CPU).info.chunk_horizon == recipe.execute


def test_both_policies_share_their_demonstrations(tmp_path: Path) -> None:
    """Those of one seed and share of pictures are in one folder, so that they are made once."""
    folders = {pipeline.DemoSource(tmp_path, recipe, 1).folder for recipe in (LIBERO_TINY, LIBERO_TINY_OFT)}

    assert len(folders) == 1
    assert [*POLICIES][-2:] == ["libero-tiny", "libero-tiny-oft"]


def test_a_leader_plays_as_evaluation_would(tmp_path: Path, toy, oft_recipe: LiberoRecipe) -> None:  # type: ignore[no-untyped-def]
    """It looks once for each chunk, and its gripper is -1 or 1, the simulator's way round."""
    statistics = {
        "libero_spatial": {
            **pipeline.action_statistics("libero_spatial")["libero_spatial"],
            "proprio": {"q01": [-1.0] * 8, "q99": [1.0] * 8, "mask": [True] * 8},
        }
    }
    LiberoOFTTrainer(tmp_path / "run", oft_recipe, statistics, CPU).export(tmp_path / "out")
    imitator = load_imitator(tmp_path / "out", oft_recipe.execute)
    leader, drawn = PolicyLeader(imitator, oft_recipe), list[list[str]]()
    scene, reading = toy.open("libero_spatial", 0), toy.reset(None, 1)

    def draw(cameras: list[str]) -> dict[str, np.ndarray]:
        drawn.append([*cameras])
        return dict(toy.pictures(cameras))

    steps = leader.begin(scene, np.random.default_rng(0))
    actions = [leader.action(reading, draw) for _ in range(7)]

    assert LEADS[0] <= steps < LEADS[1]
    assert drawn == [["agentview", "wrist"]] * 3
    assert {abs(float(action[6])) for action in actions} == {1.0}
    said = imitator._policy.last.chunk.actions
    assert np.allclose(actions[6][:6], said[0, :6])
    assert np.sign(actions[6][6]) == np.sign(1 - 2 * said[0, 6])
