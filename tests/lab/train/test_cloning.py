from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stillframe.engine.local import LocalPolicy
from stillframe.errors import CheckpointError, ConfigError
from stillframe.models.registry import load_policy
from stillframe_lab.train.cloning import CloningTrainer, Progress
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.recipe import JACO_TINY, Recipe
from stillframe_lab.train.trainer import LOG_NAME, STATE_NAME, has_fast_bf16, learning_rate

CPU = torch.device("cpu")


def quiet(_: Progress) -> None:
    """Report nowhere."""


def test_a_resumed_run_equals_one_that_was_never_stopped(
    tmp_path: Path, recipe: Recipe, demos: list[FrameStore], fill: Callable
) -> None:
    """Six steps, or three and three in a new process's place: the same weights to the bit, and the same average."""
    rounds = [fill(tmp_path / "round", 2, seed=3)]
    whole = CloningTrainer(tmp_path / "whole", recipe, CPU)
    whole.run(demos, rounds, 6, quiet)
    CloningTrainer(tmp_path / "parts", recipe, CPU).run(demos, rounds, 3, quiet)
    torch.manual_seed(99)
    resumed = CloningTrainer(tmp_path / "parts", recipe, CPU)
    at_resume = resumed.step
    resumed.run(demos, rounds, 6, quiet)
    ours, theirs = resumed.trainee.state_dict(), whole.trainee.state_dict()

    assert (at_resume, resumed.step) == (3, 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(torch.equal(resumed.ema.weights[name], whole.ema.weights[name]) for name in whole.ema.weights)


def test_training_moves_every_tensor_of_the_network(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """After one step no weight is where it began: all of them are trained."""
    cloning = CloningTrainer(tmp_path, replace(recipe, weight_decay=0.0), CPU)
    before = {name: tensor.clone() for name, tensor in cloning.trainee.state_dict().items()}
    cloning.run(demos, [], 1, quiet)
    after = cloning.trainee.state_dict()

    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_training_learns(tmp_path: Path, recipe: Recipe, fill: Callable) -> None:
    """Shown one frame again and again, the policy comes to say that frame's actions."""
    longer = replace(recipe, steps=1000, batch_images=1, noise_sigma_max=0.0, jitter_sigma_bins=0.0, learning_rate=6e-3)
    seen: list[Progress] = []
    CloningTrainer(tmp_path, longer, CPU).run([fill(tmp_path / "one", 1, seed=5)], [], 60, seen.append)

    assert [progress.step for progress in seen] == [20, 40, 60]
    assert seen[-1].loss < 0.75 * seen[0].loss
    assert seen[-1].xyz_error < 0.5 * seen[0].xyz_error


def test_another_recipe_does_not_resume(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """A folder belongs to one recipe; the error says what to do."""
    CloningTrainer(tmp_path, recipe, CPU).run(demos, [], 1, quiet)

    with pytest.raises(ConfigError, match="is a run of another recipe; give a new folder, or delete this one"):
        CloningTrainer(tmp_path, replace(recipe, learning_rate=1e-4), CPU)
    assert CloningTrainer(tmp_path, recipe, CPU).step == 1


def test_a_run_that_has_gone_far_enough_does_nothing(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """Asking again for steps already taken changes neither weights nor log."""
    cloning = CloningTrainer(tmp_path, recipe, CPU)
    cloning.run(demos, [], 2, quiet)
    state, log = (tmp_path / STATE_NAME).read_bytes(), (tmp_path / LOG_NAME).read_text()
    cloning.run(demos, [], 2, quiet)

    assert (tmp_path / STATE_NAME).read_bytes() == state
    assert (tmp_path / LOG_NAME).read_text() == log


def test_the_log_has_one_object_a_report(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """metrics.jsonl says what the progress bar said."""
    seen: list[Progress] = []
    CloningTrainer(tmp_path, recipe, CPU).run(demos, [], 3, seen.append)
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]

    assert [line["step"] for line in lines] == [progress.step for progress in seen] == [3]
    assert lines[0]["loss"] == seen[0].loss > 0
    assert (lines[0]["steps"], 0 <= lines[0]["pointer_hits"] <= 1) == (6, True)


def test_what_is_exported_is_served(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """The EMA becomes a checkpoint that loads like any other and answers within its statistics."""
    cloning = CloningTrainer(tmp_path / "run", recipe, CPU)
    cloning.run(demos, [], 2, quiet)
    cloning.export(tmp_path / "out")
    policy = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU)
    act = LocalPolicy(policy)
    action = act({"images": {"front": demos[0].images[0, 0]}, "instruction": "pick up the red cube"})
    limits = np.array(policy.info.norm_stats["jaco_sim"]["q99"])
    written = load_file(tmp_path / "out" / "model.safetensors")
    slow = cloning.ema.weights

    assert action.shape == (7,)
    assert (np.abs(action) <= limits).all()
    assert all(torch.equal(written[name], tensor) for name, tensor in slow.items())
    assert not torch.equal(slow["language_model.lm_head.weight"], cloning.trainee.network.language_model.lm_head.weight)


def test_an_earlier_policy_can_be_the_start(tmp_path: Path, recipe: Recipe, fill: Callable) -> None:
    """A run with another camera begins with the earlier weights, in the average as well, and learns from both."""
    weights = dict(new_network(recipe).state_dict())
    save_checkpoint(tmp_path / "earlier", weights, recipe)
    both = replace(recipe, cameras=("front", "wrist"))
    cloning = CloningTrainer(tmp_path / "run", both, CPU, tmp_path / "earlier")
    begun = {name: tensor.clone() for name, tensor in cloning.trainee.network.state_dict().items()}
    averaged = {name: tensor.clone() for name, tensor in cloning.ema.weights.items()}
    cloning.run([fill(tmp_path / "both", 3, seed=4, cameras=2)], [], 1, quiet)
    moved = cloning.trainee.network.state_dict()

    assert all(torch.equal(begun[name], tensor) for name, tensor in weights.items())
    assert all(torch.equal(averaged[name], tensor) for name, tensor in weights.items())
    assert not any(torch.equal(moved[name], tensor) for name, tensor in weights.items())


def test_a_policy_of_other_sizes_is_no_start(tmp_path: Path, recipe: Recipe) -> None:
    """The tensor that does not fit is named, and nothing is begun."""
    save_checkpoint(tmp_path / "earlier", dict(new_network(recipe).state_dict()), recipe)

    with pytest.raises(CheckpointError, match=r"tensor .* has shape .*, expected "):
        CloningTrainer(tmp_path / "run", replace(recipe, feed_forward=32), CPU, tmp_path / "earlier")


def test_a_policy_with_two_cameras_is_exported_and_served(tmp_path: Path, recipe: Recipe, fill: Callable) -> None:
    """The checkpoint says which cameras it needs, in their order, and answers a frame from both."""
    cloning = CloningTrainer(tmp_path / "run", replace(recipe, cameras=("front", "wrist")), CPU)
    store = fill(tmp_path / "both", 2, seed=4, cameras=2)
    cloning.run([store], [], 1, quiet)
    cloning.export(tmp_path / "out")
    policy = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU)
    images = dict(zip(("front", "wrist"), store.images[0], strict=True))

    assert policy.info.cameras == ("front", "wrist")
    assert LocalPolicy(policy)({"images": images, "instruction": "reach the red cube"}).shape == (7,)


def test_the_learning_rate_rises_rests_and_falls() -> None:
    """Linear warm-up, constant up to `decay_from`, then linearly to zero."""
    peak, steps, start = JACO_TINY.learning_rate, JACO_TINY.steps, int(JACO_TINY.decay_from * JACO_TINY.steps)
    rates = [learning_rate(JACO_TINY, step) for step in range(steps + 1)]

    assert rates[0] == peak / JACO_TINY.warmup_steps
    assert set(rates[JACO_TINY.warmup_steps : start]) == {peak}
    assert rates[start:] == sorted(rates[start:], reverse=True)
    assert rates[(start + steps) // 2] == pytest.approx(peak / 2, rel=1e-3)
    assert rates[-1] == 0


@pytest.mark.parametrize(
    ("instructions", "device", "fast"),
    [({}, "cpu", False), ({"avx512_bf16": True}, "cpu", True), ({"amx_bf16": False}, "cpu", False), ({}, "cuda", True)],
)
def test_mixed_precision_is_for_machines_that_have_it(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool], device: str, *, fast: bool
) -> None:
    """On a CPU that emulates bfloat16 training would take thirty times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)

    assert has_fast_bf16(torch.device(device)) is fast
