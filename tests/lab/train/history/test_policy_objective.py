from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.history.store import ChunkShape, History, RetentionPolicy
from stillframe.models.llama.history_attention import HistoryKV, image_tokens
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import prompt_slice
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan
from stillframe_lab.train.history.dataset import SceneDataset
from stillframe_lab.train.history.policy_objective import MemoryBatch, MemoryTrainee
from stillframe_lab.train.history.policy_training import memory_trainee
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.history.soft_retention import Kept, Room

CPU = torch.device("cpu")


@pytest.fixture
def trainee(tmp_path: Path, memory_recipe: MemoryRecipe) -> MemoryTrainee:
    """A fresh network with its heads, loud enough that attention is no mean."""
    torch.manual_seed(8)
    made = memory_trainee(tmp_path, memory_recipe, None).eval()
    with torch.no_grad():
        for layer in made.network.language_model.model.layers:
            layer.self_attn.q_proj.weight *= 4  # type: ignore[union-attr,operator]  # torch types layers as tensors
    return made


@pytest.fixture
def batch(scenery: SceneDataset) -> MemoryBatch:
    """Some memories of different lengths."""
    return scenery.draw(np.random.default_rng(1))


@pytest.mark.parametrize("room", [None, Room(chunks=4, window_frames=2)])
@torch.no_grad()
def test_what_is_trained_is_what_is_served(trainee: MemoryTrainee, batch: MemoryBatch, room: Room | None) -> None:
    """A branch's rows in training are those of a prompt with guesses whose session has seen the branch's frames.

    With all of them, and with those that a budget leaves of frames that are worth more or less.
    """
    memories = batch.drawn.memories
    worth = torch.rand(memories.frames.shape, generator=torch.Generator().manual_seed(4))
    kept = None if room is None else Kept.of(worth, memories.there, room)
    drawn = replace(batch.drawn, memories=replace(memories, kept=kept))
    patches = trainee.network.patches(batch.pixels)
    frames = trainee.look(patches)
    decoder = trainee.network.language_model
    slots = frames.pooled(decoder.model, trainee.pooling)
    trainee._sequence = trainee._sequences[batch.drawn.cues]
    tokens = trainee._tokens.jittered(trainee._tokens.index(batch.actions), torch.Generator().manual_seed(0))
    hidden, _ = trainee.recall(frames, slots, drawn, tokens)
    served = _served(trainee, patches, room)

    for picture, branch in ((0, 0), (1, 2), (5, 1)):
        memory = memories.frames[picture, branch]
        remembered = [*zip(memory[memory >= 0].tolist(), worth[picture, branch].tolist(), strict=False)]
        expected = served(picture, remembered, tokens[picture, branch, :-1])
        rows = trainee._sequence.predicting[branch]
        torch.testing.assert_close(hidden[picture, rows], expected, rtol=0, atol=2e-5)


def _served(
    trainee: MemoryTrainee, patches: Tensor, room: Room | None
) -> Callable[[int, list[tuple[int, float]], Tensor], Tensor]:
    """How the daemon computes a picture's action rows after other pictures."""
    decoder, sequence = trainee.network.language_model, trainee._sequence
    text = sequence.ids[: len(sequence.ids) // 3 - 6]
    count = patches.shape[1]
    first = 1 + count
    layout = TokenLayout(
        {"front": range(1, first)},
        (2, 2),
        range(first, first + len(text)),
        range(first + len(text), first + len(text) + 7),
    )
    shape = KVShape(2, 2, 8, layout.total_rows, torch.float32, CPU)
    whole = ReusePlan.whole(layout.prompt_rows, 2, count, CPU)

    def rows(picture: int) -> Tensor:
        ids = torch.cat((torch.tensor([1]), text))
        embedded = decoder.embed(ids)
        return torch.cat((embedded[:1], patches[picture], embedded[1:]))

    def serve(picture: int, memory: list[tuple[int, float]], guesses: Tensor) -> Tensor:
        chunk = ChunkShape(2, 2, 8, count, 2, torch.float32, CPU)
        bounded = (
            RetentionPolicy(chunk.nbytes * room.chunks, 1, room.window_frames, decay=room.decay)
            if room
            else RetentionPolicy(None)
        )
        history = History(chunk, bounded)
        for frame, worth in memory:
            kv = FrameKV(shape.allocate())
            DecoderRunner(decoder).forward([prompt_slice(decoder, rows(frame), whole, kv)])
            history.add(
                trainee.pooling.frame(*image_tokens(decoder, kv, layout), count), np.array([worth if room else 1.0])
            )
        columns = history.columns()
        recall = None if columns is None else HistoryKV.of(decoder, columns, layout)
        sequence = prompt_slice(
            decoder, rows(picture), whole, FrameKV(shape.allocate()), draft_ids=guesses, read=7, history=recall
        )
        return DecoderRunner(decoder).forward([sequence])[0]

    return serve


def test_a_memory_matters_to_its_own_branch_only(trainee: MemoryTrainee, batch: MemoryBatch) -> None:
    """What one branch remembers changes nothing for the others, nor for other pictures."""
    before = _hidden(trainee, batch)
    frames = batch.drawn.memories.frames
    frames[2, 1] = frames[2, 1].roll(1).clamp(max=0)
    changed = (_hidden(trainee, batch) - before).abs().amax(-1) > 1e-6
    of = torch.arange(3).repeat_interleave(changed.shape[1] // 3)

    assert changed[2, of == 1].any()
    assert not changed[2, of != 1].any()
    assert not changed[torch.arange(6) != 2].any()


@torch.no_grad()
def _hidden(trainee: MemoryTrainee, batch: MemoryBatch) -> Tensor:
    """The instructions' rows."""
    trainee._sequence = trainee._sequences[batch.drawn.cues]
    frames = trainee.look(trainee.network.patches(batch.pixels))
    slots = frames.pooled(trainee.network.language_model.model, trainee.pooling)
    tokens = torch.full((6, 3, 7), 100)
    return trainee.recall(frames, slots, batch.drawn, tokens)[0][:, trainee._sequence.prefix_rows :]


def test_every_part_learns(trainee: MemoryTrainee, batch: MemoryBatch) -> None:
    """A gradient reaches the network, the pooling and every head."""
    trainee.train().learn(batch, torch.Generator().manual_seed(0)).total.backward()  # type: ignore[no-untyped-call]  # torch's
    idle = [name for name, part in trainee.named_parameters() if part.grad is None or not part.grad.any()]

    assert idle == []
