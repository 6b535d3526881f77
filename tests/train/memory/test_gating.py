from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stillframe.memory.files import MemoryConfig, Weights
from stillframe.train.memory.gating import GateProgress, Gating, Labelled
from stillframe.train.memory.recipe import MemoryRecipe

CONFIG = MemoryConfig(1, 1, 2, 4, 1, (0,), 2, 24)  # six inputs


def episodes() -> list[Labelled]:
    """Chunks that are worth all when their kind comes first, and nothing when it comes again."""
    noise = torch.Generator().manual_seed(2)
    made = []
    for _ in range(40):
        kinds = torch.randint(3, (9,), generator=noise)
        first = torch.tensor([float(kind not in kinds[:at]) for at, kind in enumerate(kinds)])
        inputs = torch.nn.functional.one_hot(kinds, 6).float() + 0.05 * torch.randn(9, 6, generator=noise)
        made.append(Labelled(inputs, first))
    return made


def run(folder: Path, recipe: MemoryRecipe, steps: int) -> tuple[Gating, list[GateProgress]]:
    """Train for so many steps."""
    torch.manual_seed(1)
    said: list[GateProgress] = []
    gating = Gating(folder, Weights(CONFIG), replace(recipe, gate_steps=steps, gate_rate=1e-2))
    gating.run(episodes(), said.append)
    return gating, said


def test_the_gate_learns_what_a_score_of_chunks_alone_cannot(tmp_path: Path, memory_recipe: MemoryRecipe) -> None:
    """Worth that depends on what came before: the gate learns it, in stretches; the linear score stays in doubt."""
    _, said = run(tmp_path, memory_recipe, 400)

    assert said[-1].worthy_error + said[-1].idle_error < 0.5
    assert said[-1].linear_worthy_error + said[-1].linear_idle_error > 0.8


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path, memory_recipe: MemoryRecipe) -> None:
    """The same weights to the bit; rates follow the step's number."""
    whole, _ = run(tmp_path / "whole", memory_recipe, 100)
    torch.manual_seed(1)
    part = Gating(tmp_path / "parts", Weights(CONFIG), whole.recipe)
    for scorer in (part.weights.gate, part.weights.linear):
        scorer.norm.fit(torch.cat([one.inputs for one in episodes()]))
    for _ in range(50):
        part._one_step(episodes())
    part._save()
    again = Gating(tmp_path / "parts", Weights(CONFIG), whole.recipe)
    again.run(episodes(), lambda _: None)

    assert again.step == 100
    for name, tensor in whole.weights.state_dict().items():
        assert torch.equal(tensor, again.weights.state_dict()[name]), name


@pytest.mark.parametrize("part", ["gate", "linear"])
def test_both_scorers_learn(tmp_path: Path, memory_recipe: MemoryRecipe, part: str) -> None:
    """Neither is as it was."""
    gating, _ = run(tmp_path, memory_recipe, 5)

    assert getattr(gating.weights, part).outward.weight.any()
