"""What the action expert attends to, read out of a drawing beside it: against the formula, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.domain import Observation
from stillframe.engine.kv_slots import kv_shape
from stillframe.models.base import Prefilled
from stillframe.models.expert_probe import ExpertAttentionProbe
from stillframe.models.guidance import Guidance
from stillframe.models.held_chunk import HeldChunk, SampledChunk
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import prompt_slice
from stillframe.models.pi0.model import Pi0
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.relevance import Relevance

GOLDENS = Path(__file__).parents[2] / "goldens" / "pi0"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb")
WORDS = ("put the spoon on the towel", "pick up the black bowl and put it on the plate beside the other one")
LAYERS = 3


@pytest.fixture(params=["pi0-micro", "pi05-micro"])
def policy(request: pytest.FixtureRequest, folder_of: Callable[[str], Path], load: Callable[..., Pi0]) -> Pi0:
    """Two pictures; pi0 reads a state in a row of its own."""
    return load(folder_of(request.param), real=True, cameras=[*CAMERAS])


def prefilled(policy: Pi0, shot: int, words: str = WORDS[0]) -> Prefilled:
    """A recorded frame after its dense prefill."""
    with np.load(GOLDENS / "pi0-micro.npz") as record:
        images = {camera: record[f"f{shot}/{own}"] for camera, own in zip(CAMERAS, _slots(shot), strict=True)}
        prepared = policy.prepare(Observation(images, words, state=record["states"][shot]))
    with torch.inference_mode():
        (rows,) = policy.embed([prepared])
        layout, kv = prepared.layout, FrameKV(kv_shape(policy, len(prepared.layout.text)).allocate())
        plan = ReusePlan.whole(len(rows), LAYERS, len(layout.patch_positions), rows.device)
        prompt = prompt_slice(policy.decoder, rows, plan, kv, read=1, mask=layout.mask)
        (hidden,) = DecoderRunner(policy.decoder).forward([prompt])
    return Prefilled(prepared, hidden, kv, Draft(prepared.no_motion_tokens), seed=shot)


def _slots(shot: int) -> tuple[str, str]:
    return CAMERAS if shot == 0 else ("base_0_rgb", "right_wrist_0_rgb")


def drawn(
    policy: Pi0, frames: Sequence[Prefilled], probes: Sequence[ExpertAttentionProbe | None], guidance: object = None
) -> list[Tensor]:
    """What each step begins with, then the chunks."""
    noise = torch.stack([policy.noise(frame.seed) for frame in frames])
    with torch.no_grad():
        return [*policy.network.drawn(*policy.expert_input(frames), noise, guidance, probes)]  # type: ignore[arg-type]


def probe(frame: Prefilled, chosen: Sequence[int] = (), *, every_layer: bool = False) -> ExpertAttentionProbe:
    """Of one frame."""
    return ExpertAttentionProbe(frame.prepared.layout, chosen, of=LAYERS, every_layer=every_layer)


def rotated(heads: Tensor, first: int) -> Tensor:
    """[heads, rows, head_dim] turned by their positions, half by half, base 10000: openpi's _apply_rope."""
    half = heads.shape[-1] // 2
    period = 10000.0 ** (torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(first, first + heads.shape[1], dtype=torch.float64)[:, None] / period
    low, high = heads[..., :half], heads[..., half:]
    return torch.cat((low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()), dim=-1)


def plain_attention(policy: Pi0, frame: Prefilled, actions: Tensor) -> list[Tensor]:
    """Each layer's softmax(q k^T / sqrt(d)) of the last step's rows [heads, horizon, prefix + own], in float64.

    State and actions go through the expert together, the state masked from the actions: as the reference does.
    """
    network, rows = policy.network, frame.prepared.layout.prompt_rows
    step = network.flow.steps - 1
    *_, states = policy.expert_input([frame])
    hidden = network._action_rows(actions, step)[0]
    own = 0 if states is None else 1
    if states is not None:
        hidden = torch.cat((network.state_proj(states), hidden))
    sees = torch.ones(len(hidden), rows + len(hidden), dtype=torch.bool)
    sees[:own, rows + own :] = False
    maps = []
    for index, layer in enumerate(network.expert.layers):
        before, between = network.tables.modulations[step][2 * index : 2 * index + 2]
        attention, normed = layer.self_attn, before.norm(hidden, layer.eps)  # type: ignore[union-attr]
        heads = attention._projected(normed).double().unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)  # type: ignore[operator,union-attr]
        queries, keys, values = heads[:-2], heads[-2], heads[-1]
        held_keys, held_values = (part[index, 0].double() for part in frame.kv.rows(0, rows))
        every_key = torch.cat((held_keys, rotated(keys[None], rows)[0]))
        scores = rotated(queries, rows) @ every_key.T / keys.shape[-1] ** 0.5
        shares = scores.masked_fill(~sees, -torch.inf).softmax(dim=-1)
        maps.append(shares[:, own:])
        mixed = (shares @ torch.cat((held_values, values))).transpose(0, 1).flatten(1).float()
        hidden = before.add(hidden, attention.o_proj(mixed))  # type: ignore[operator,union-attr]
        hidden = between.add(hidden, layer.mlp(between.norm(hidden, layer.eps)))  # type: ignore[operator,union-attr]
    return maps


def test_scores_are_the_attention_of_the_last_steps_actions(policy: Pi0) -> None:
    """By the formula: softmax over prefix and the expert's own rows, mean over heads and actions; of chosen layers."""
    frame = prefilled(policy, 0)
    middle, last, every = probe(frame), probe(frame, [2]), probe(frame, [0, 2], every_layer=True)
    steps = drawn(policy, [frame], [middle])
    for other in (last, every):
        drawn(policy, [frame], [other])
    maps = plain_attention(policy, frame, steps[-2])
    patches = frame.prepared.layout.patch_positions
    looks = [each.mean(dim=(0, 1))[patches.start : patches.stop].float() for each in maps]

    def scores(one: ExpertAttentionProbe) -> Tensor:
        return one.relevance(frame.kv).scores

    torch.testing.assert_close(scores(middle), looks[1], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(scores(last), looks[2], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(scores(every), (looks[0] + looks[2]) / 2, rtol=1e-4, atol=1e-7)
    assert len(patches) == 2 * 256
    assert [len(one.relevance(frame.kv).entropies) for one in (middle, last, every)] == [1, 1, LAYERS]
    assert (looks[1] - looks[2]).abs().max() > 1e-5


def test_only_the_last_step_is_kept(policy: Pi0) -> None:
    """What an earlier step asked differs, by noise: the last step's is there, and one copy a layer."""
    frame = prefilled(policy, 0)
    kept: list[tuple[int, Tensor]] = []
    steps = drawn(policy, [frame], [lambda layer, queries, _: kept.append((layer, queries.clone()))])  # type: ignore[list-item]

    assert len(steps) == policy.network.flow.steps + 1
    assert [layer for layer, _ in kept] == [0, 1, 2]
    assert kept[0][1].shape[1] == policy.config.horizon


def test_robots_side_by_side_have_each_its_own(policy: Pi0) -> None:
    """Prefixes of different lengths are padded; no robot's scores know of it. One that is not probed is left out."""
    frames = [prefilled(policy, 0), prefilled(policy, 1, WORDS[1]), prefilled(policy, 1)]
    assert len({frame.prepared.layout.prompt_rows for frame in frames}) == 2
    together, alone = [probe(frame) for frame in frames[:2]], [probe(frame) for frame in frames[:2]]
    drawn(policy, frames, [*together, None])
    for frame, own in zip(frames, alone, strict=False):
        drawn(policy, [frame], [own])

    side: list[Relevance] = [own.relevance(frame.kv) for frame, own in zip(frames, together, strict=False)]
    for one, frame, own in zip(side, frames, alone, strict=False):
        torch.testing.assert_close(one.scores, own.relevance(frame.kv).scores, rtol=1e-4, atol=1e-7)
    assert (side[0].scores - side[1].scores).abs().max() > 1e-5


def test_the_chunk_does_not_know_of_a_probe(policy: Pi0) -> None:
    """To the bit."""
    frame = prefilled(policy, 0)
    watched, plain = drawn(policy, [frame], [probe(frame)]), drawn(policy, [frame], ())

    assert all(torch.equal(one, other) for one, other in zip(watched, plain, strict=True))


def test_what_is_kept_is_a_copy(policy: Pi0) -> None:
    """No more memory stays than a chunk's rows, and whatever is written there later does not count."""
    frame = prefilled(policy, 0)
    own = probe(frame)
    queries, keys = torch.rand(4, 50, 16), torch.rand(1, 51, 16)
    own(1, queries, keys)
    before = own.relevance(frame.kv).scores
    queries.zero_()
    keys.zero_()

    assert torch.equal(own.relevance(frame.kv).scores, before)


def test_a_policy_hands_its_frames_hooks_on(policy: Pi0) -> None:
    """Each robot's own, and none where a frame has none."""
    frames = [prefilled(policy, 0), prefilled(policy, 1)]
    own, alone = probe(frames[1]), probe(frames[1])
    with torch.inference_mode():
        policy.act([frames[0], replace(frames[1], expert_hook=own)], DecoderRunner(policy.decoder))
    drawn(policy, frames[1:], [alone])

    expected = alone.relevance(frames[1].kv).scores
    torch.testing.assert_close(own.relevance(frames[1].kv).scores, expected, rtol=1e-4, atol=1e-7)


def test_a_chunk_that_is_held_to_another_is_probed_too(policy: Pi0) -> None:
    """Its steps are differentiated through; what is kept needs no gradient."""
    frame = prefilled(policy, 0)
    shape = (policy.config.horizon, policy.config.sizes.action_dim)
    before = SampledChunk(np.zeros(shape), "any")
    held = HeldChunk(before, executed=4, frozen=2, guided=3)
    guidance = Guidance.of([held], policy.noise(frame.seed)[None])
    own = probe(frame)
    drawn(policy, [frame], [own], guidance)

    scores = own.relevance(frame.kv).scores
    assert not scores.requires_grad
    assert bool(scores.isfinite().all())
