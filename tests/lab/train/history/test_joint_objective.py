from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.history.checkpoint import HistoryWeights
from stillframe_lab.train.history import joint_objective
from stillframe_lab.train.history.checkpoint import new_memory_weights
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.joint_objective import JointBatch, JointTrainee, answer_kl_nats, with_retention
from stillframe_lab.train.history.policy_training import memory_trainee, sequences_for
from stillframe_lab.train.history.recipe import JointRecipe
from stillframe_lab.train.history.sampling import NOTHING
from stillframe_lab.train.history.soft_retention import Kept, Room, staying


@pytest.fixture
def weights(tmp_path: Path, joint_recipe: JointRecipe) -> HistoryWeights:
    """Scorers that have an opinion, at random."""
    torch.manual_seed(5)
    made = new_memory_weights(memory_trainee(tmp_path, joint_recipe.memory, None), joint_recipe.memory)
    torch.nn.init.normal_(made.gate.outward.weight)
    return made


@pytest.fixture
def trainee(tmp_path: Path, joint_recipe: JointRecipe, weights: HistoryWeights) -> JointTrainee:
    """A fresh network, loud enough that attention is no mean."""
    network = memory_trainee(tmp_path, joint_recipe.memory, None).network
    with torch.no_grad():
        for layer in network.language_model.model.layers:
            layer.self_attn.q_proj.weight *= 4  # type: ignore[union-attr,operator]  # torch types layers as tensors
    return JointTrainee(network, joint_recipe, sequences_for(network, joint_recipe.memory, tmp_path), weights)


@pytest.fixture
def batch(scenery: SceneDataset, joint_recipe: JointRecipe) -> JointBatch:
    """Memories of different lengths, of which three frames fit."""
    rng = np.random.default_rng(1)
    return JointBatch.of(scenery.draw(rng), joint_recipe, rng)


def _learn(trainee: JointTrainee, batch: JointBatch) -> joint_objective.JointObjective:
    return trainee.learn_both(batch, torch.Generator().manual_seed(0))


def _moved(trainee: JointTrainee) -> Iterator[str]:
    for name, parameter in trainee.named_parameters():
        if parameter.grad is not None and parameter.grad.any():
            yield name.split(".")[0]


def test_what_went_moves_the_gate(trainee: JointTrainee, batch: JointBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without labels, answers alone teach the gate through what it keeps; nothing does without straight-through."""
    monkeypatch.setattr(joint_objective, "scorer_loss", lambda *_: 0.0)
    _learn(trainee, batch).total.backward()  # type: ignore[no-untyped-call]  # torch's
    assert {*_moved(trainee)} == {"network", "pooling", "scorers"}

    trainee.zero_grad()
    through = trainee._kept
    monkeypatch.setattr(trainee, "_kept", lambda *told: _cut(through(*told)))
    _learn(trainee, batch).total.backward()  # type: ignore[no-untyped-call]  # torch's
    assert {*_moved(trainee)} == {"network", "pooling"}


def _cut(kept: Kept) -> Kept:
    return Kept(kept.trust.detach(), kept.ranks)


def test_labels_move_both_scorers_and_nothing_else(
    trainee: JointTrainee, batch: JointBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the scorers are told is no reason for the policy to leave something else."""
    monkeypatch.setattr(joint_objective, "answer_kl_nats", lambda *_: torch.zeros(()))
    monkeypatch.setattr(trainee._tokens, "loss", lambda *_: torch.zeros(()))
    _learn(trainee, batch).total.backward()  # type: ignore[no-untyped-call]  # torch's

    assert {*_moved(trainee)} == {"scorers"}
    assert trainee.scorers.linear.outward.weight.grad.any()  # type: ignore[union-attr]  # it has one


@torch.no_grad()
def test_what_went_changes_no_answer(trainee: JointTrainee, batch: JointBatch) -> None:
    """Another frame in its place, and the answer is the same; in the place of one that stayed, another."""
    memories = batch.seen.drawn.memories
    worth = torch.rand(memories.frames.shape, generator=torch.Generator().manual_seed(3))
    kept, stays = Kept.of(worth, memories.there, Room(3, 1)), staying(worth, memories.there, Room(3, 1))
    other = (memories.frames + 1) % 6
    before, gone, stayed = (
        _answers(trainee, batch, frames, kept)
        for frames in (
            memories.frames,
            torch.where(memories.there & ~stays, other, memories.frames),
            torch.where(stays, other, memories.frames),
        )
    )

    assert (memories.there & ~stays).any()
    torch.testing.assert_close(before, gone, rtol=0, atol=1e-5)
    assert float((before - stayed).abs().max()) > 1e-3


def _answers(trainee: JointTrainee, batch: JointBatch, frames: Tensor, kept: Kept | None) -> Tensor:
    seen = batch.seen
    trainee._sequence = trainee._sequences[seen.drawn.cues]
    drawn = with_retention(replace(seen.drawn, memories=replace(seen.drawn.memories, frames=frames)), kept)
    looked = trainee.look(trainee.network.patches(seen.pixels))
    slots = looked.pooled(trainee.network.language_model.model, trainee.pooling)
    return trainee._answer(looked, slots, drawn, torch.full((6, 3, 7), 100))[0]


@torch.no_grad()
def test_all_that_is_trusted_wholly_parts_nothing(trainee: JointTrainee, batch: JointBatch) -> None:
    """Where everything stays and is worth 1, answers are those with all of the memory; else they are not."""
    frames = batch.seen.drawn.memories.frames
    ranks = torch.arange(frames.shape[-1]).expand(frames.shape)
    wholly, less = Kept(torch.ones(frames.shape), ranks), Kept(torch.full(frames.shape, 0.1), ranks)
    plain, trusted, doubted = (_answers(trainee, batch, frames, kept) for kept in (None, wholly, less))

    assert float(answer_kl_nats(plain, trusted)) < 1e-6
    assert float(answer_kl_nats(plain, doubted)) > 1e-5


@torch.no_grad()
def test_a_memory_that_tells_nothing_is_worth_nothing(trainee: JointTrainee, batch: JointBatch) -> None:
    """Elsewhere something is, up to 1; padding is not."""
    seen = batch.seen
    trainee._sequence = trainee._sequences[seen.drawn.cues]
    frames = trainee.look(trainee.network.patches(seen.pixels))
    slots = frames.pooled(trainee.network.language_model.model, trainee.pooling)
    told = seen.drawn.told.clone()
    told[0, 1] = NOTHING
    seen = replace(seen, drawn=replace(seen.drawn, told=told))
    _, instructions = trainee._answer(frames, slots, seen.drawn, torch.full((6, 3, 7), 100))
    worth = trainee._worth(instructions, seen)
    tells = told.flatten(0, 1)[:, 0] != NOTHING

    assert not worth[~tells].any()
    assert worth[tells].any(-1).all()
    assert worth.max() == 1
    assert not worth[~seen.drawn.memories.there.flatten(0, 1)].any()
