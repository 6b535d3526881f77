from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe_lab.train.history.gate_objective import Scorers
from stillframe_lab.train.history.gate_training import GateProgress, GateTrainer, LabelledEpisode, split_held_out
from stillframe_lab.train.history.recipe import MemoryRecipe

CONFIG = HistoryConfig(1, 1, 2, 4, 1, (0,), 2, 24)  # six inputs


def episodes() -> list[LabelledEpisode]:
    """Chunks that are worth all when their kind comes first, and nothing when it comes again."""
    noise = torch.Generator().manual_seed(2)
    made = []
    for _ in range(40):
        kinds = torch.randint(3, (9,), generator=noise)
        first = torch.tensor([float(kind not in kinds[:at]) for at, kind in enumerate(kinds)])
        inputs = torch.nn.functional.one_hot(kinds, 6).float() + 0.05 * torch.randn(9, 6, generator=noise)
        made.append(LabelledEpisode(inputs, first))
    return made


def run(folder: Path, recipe: MemoryRecipe, steps: int) -> tuple[GateTrainer, list[GateProgress]]:
    """Train for so many steps."""
    said: list[GateProgress] = []
    gating = GateTrainer(folder, _weights(), replace(recipe, gate_steps=steps, gate_rate=1e-2))
    gating.run(episodes(), steps, said.append)
    return gating, said


def _weights() -> HistoryWeights:
    torch.manual_seed(1)
    return HistoryWeights(CONFIG)


@pytest.mark.slow
def test_the_gate_learns_what_a_score_of_chunks_alone_cannot(tmp_path: Path, memory_recipe: MemoryRecipe) -> None:
    """Worth that depends on what came before: the gate learns it, in stretches; the linear score stays in doubt.

    On episodes that neither has learnt from, too.
    """
    _, said = run(tmp_path, memory_recipe, 400)

    for off in (said[-1].learnt, said[-1].held_out):
        assert off.worthy + off.idle < 0.5
        assert off.linear_worthy + off.linear_idle > 0.8


def test_every_fifth_episode_is_held_out(tmp_path: Path, memory_recipe: MemoryRecipe) -> None:
    """Nothing that is learnt depends on it; what is told of it does."""
    changed = episodes()
    changed[4::5] = [replace(one, worth=1 - one.worth) for one in changed[4::5]]
    plain, said = run(tmp_path / "plain", memory_recipe, 20)
    again = GateTrainer(tmp_path / "again", _weights(), plain.recipe)
    again.run(changed, 20, said.append)

    assert [len(part) for part in split_held_out(changed)] == [32, 8]
    for name, tensor in plain.scorers.state_dict().items():
        assert torch.equal(tensor, again.scorers.state_dict()[name]), name
    assert said[0].learnt == said[1].learnt
    assert said[0].held_out != said[1].held_out


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path, memory_recipe: MemoryRecipe) -> None:
    """The same weights to the bit; rates follow the step's number."""
    whole, _ = run(tmp_path / "whole", memory_recipe, 30)
    for until in (17, 30):
        weights = _weights()
        GateTrainer(tmp_path / "parts", weights, whole.recipe).run(episodes(), until, lambda _: None)
    learnt = Scorers(weights).state_dict()

    for name, tensor in whole.scorers.state_dict().items():
        assert torch.equal(tensor, learnt[name]), name


@pytest.mark.parametrize("part", ["gate", "linear"])
def test_both_scorers_learn(tmp_path: Path, memory_recipe: MemoryRecipe, part: str) -> None:
    """Neither is as it was."""
    gating, _ = run(tmp_path, memory_recipe, 5)

    assert getattr(gating.scorers, part).outward.weight.any()
