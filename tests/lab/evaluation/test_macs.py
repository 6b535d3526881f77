from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stillframe.domain import PRUNING_MODES, Observation, ReuseMode, SessionRef, Step
from stillframe.engine.local import LocalBatchPolicy
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.models.base import PolicyModel
from stillframe.models.llama import eager_attention, weight_packing
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.llama.pruning import PromptPruning
from stillframe.models.prismatic.vision import TowerConfig
from stillframe.models.registry import load_policy
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.ablation.plan import forced
from stillframe_lab.evaluation.macs import (
    decoder_macs,
    decoder_pass,
    head_work,
    policy_work,
    single_pass,
    step_work,
    vision_work,
)

GOLDENS = Path(__file__).parents[2] / "goldens" / "pi0"
TOY = DecoderConfig(
    vocab_size=11,
    hidden_size=4,
    intermediate_size=3,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
)
# A row of a layer: q and o 4 x 4 each, k and v 4 x 2 each, three of 4 x 3 in the feed-forward; 8 for each key it sees.
ROW = 2 * 16 + 2 * 8 + 3 * 12


def test_a_whole_prompt_by_hand() -> None:
    """Five rows, each looking at five keys; in the second layer only the last, of which the action's token comes."""
    assert decoder_macs(TOY, rows=5, reused=[0, 0], action_tokens=1) == (5 + 1) * (ROW + 5 * 8) + 4 * 16 + 4 * 11


def test_reused_rows_cost_keys_and_values_once_and_are_looked_at() -> None:
    """A row costs two projections in the layer in which it leaves and nothing after; the others still see every key."""
    assert decoder_macs(TOY, rows=5, reused=[2, 3], action_tokens=1) == (3 + 1) * (ROW + 5 * 8) + 4 * 16 + 4 * 11


def test_guesses_are_rows_of_the_prefill() -> None:
    """Two more rows behind the prompt, which all see each other; the head speaks of two more tokens."""
    assert decoder_macs(TOY, rows=5, reused=[0, 2], action_tokens=3) == (7 + 3) * (ROW + 7 * 8) + 4 * 16 + 3 * 4 * 11


def test_each_further_pass_is_one_over_the_guesses() -> None:
    """Two rows, which see seven keys, in two layers, and the head for each."""
    one, three = (decoder_macs(TOY, 5, [0, 2], action_tokens=3, passes=passes) for passes in (1, 3))

    assert three - one == 2 * (2 * 2 * (ROW + 7 * 8) + 2 * 4 * 11)


def test_seven_billion() -> None:
    """OpenVLA's prefill of 291 rows is the published 1.91 T: the formula is that of the field."""
    prefill = decoder_pass(DecoderConfig(vocab_size=32064), [291] * 33, keys=291, heads=0, item_bytes=2)

    assert prefill.macs == pytest.approx(1.91e12, rel=0.005)


def test_a_pass_multiplies_what_the_step_does() -> None:
    """A prefill with reused rows and a later pass come to the whole step's multiply-adds."""
    prefill = decoder_pass(TOY, [7, 7, 3], keys=7, heads=3, item_bytes=2)
    again = decoder_pass(TOY, [2, 2, 2], keys=7, heads=2, item_bytes=2)

    assert (prefill + again).macs == decoder_macs(TOY, rows=5, reused=[0, 2], action_tokens=3, passes=2)


def test_a_pass_reads_every_weight_once() -> None:
    """Two layers and the head, and the keys and values of seven rows in both; of several robots the latter each."""
    weights, looked_at = 2 * ROW + 4 * 11, 2 * 7 * (2 + 2)
    alone, three = (decoder_pass(TOY, [7, 7, 3], keys=7, heads=3, item_bytes=2, robots=robots) for robots in (1, 3))

    assert (alone.read_bytes, three.read_bytes) == (2 * (weights + looked_at), 2 * (weights + 3 * looked_at))
    assert three.macs == 3 * alone.macs


def test_vision_by_hand() -> None:
    """Two towers of one read block each, four patches, and a projector of four times their width."""
    tower = TowerConfig(4, 2, 1, 2.0, prefix_tokens=1, layer_scale=False, image_px=28)
    config, decoder = SimpleNamespace(towers=(tower, tower), cameras=("front",)), SimpleNamespace(config=TOY)
    model, twice = (SimpleNamespace(config=each, decoder=decoder) for each in (config, pair(config)))
    block, projector = 4 * 16 + 2 * 4 * 8, 4 * 8 * 8 + 4 * 8 * 4 + 4 * 4
    one = 4 * 3 * 14 * 14 * 4 + 5 * (block + 2 * 5 * 4)

    assert vision_work(model, item_bytes=4).macs == 2 * one + 4 * projector
    assert vision_work(model, item_bytes=4, robots=3).read_bytes == 4 * (2 * block + projector)
    assert vision_work(twice, item_bytes=4, robots=3).macs == 6 * vision_work(model, item_bytes=4).macs


def pair(config: SimpleNamespace) -> SimpleNamespace:
    """The same with a second camera."""
    return SimpleNamespace(towers=config.towers, cameras=("front", "wrist"))


def test_a_single_pass_by_hand() -> None:
    """Five rows, of which two leave in the first layer and two are read: no draft behind them, no head over tokens."""
    assert single_pass(TOY, rows=5, reused=[2, 2], read=2, said=0).macs == (3 + 2) * (ROW + 5 * 8) + (2 + 1) * 16
    assert single_pass(TOY, rows=5, reused=[2, 2], read=2, said=0).read_bytes == 2 * ROW + 2 * 5 * (2 + 2)


def test_a_pruned_prompt_by_hand() -> None:
    """Three of five rows are not there in the second layer, nor seen by a later pass in it; the others are."""
    alone = single_pass(TOY, rows=5, reused=[0, 0], read=1, said=0, pruned=[0, 3])
    prefill, again = step_work(TOY, rows=5, reused=[0, 0], action_tokens=3, passes=2, pruned=[0, 3])

    assert alone.macs == 5 * (ROW + 5 * 8) + (ROW + 2 * 8) + 1 * 16
    assert alone.read_bytes == 2 * ROW + (5 + 2) * 2 * 2
    assert prefill.macs == 7 * (ROW + 7 * 8) + 3 * (ROW + 4 * 8) + 1 * 16 + 3 * 44
    assert again.macs == 2 * (ROW + 7 * 8) + 2 * (ROW + 4 * 8) + 2 * 44


@pytest.mark.parametrize("name", ["oft", "oft, discrete", "cogact", "pi0", "pi05"])
def test_chunked_families_multiply_what_torch_counts(
    name: str, oft_folder: Path, cogact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a keyframe and of a delta frame, to the last product: towers, decoder, head, state, expert."""
    monkeypatch.setattr(weight_packing, "LEAST_PACKED", {})  # packed products are not counted
    monkeypatch.setattr(eager_attention, "BLOCK_ROWS", 10_000)  # what a causal kernel may skip is
    policy = chunked(name, cogact_folder if name == "cogact" else oft_folder)
    robot = LocalBatchPolicy(policy, 1, forced(ReuseSettings(), 128, kept=0))
    monkeypatch.setattr(robot.core.cache._actions, "refusal", lambda *_: None)  # random weights go anywhere
    for turn in range(2):
        with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
            (answer,) = step(robot.core, [FrameRequest(seen(policy, turn), SessionRef("robot", seq=turn))])
        assert isinstance(answer, Step)
        parts = policy_work(policy, robot.plan, answer.chunk.tokens.size, answer.report.passes)
        work = (vision_work(policy, 4), *parts, *head_work(policy, 4, prompt_rows=robot.plan.rows))

        assert (answer.report.cache.reuse_ratio > 0.3) == bool(turn)
        assert 2 * sum(part.macs for part in work) == counted.get_total_flops()


@pytest.mark.parametrize("mode", PRUNING_MODES)
@pytest.mark.parametrize("name", ["oft", "oft, discrete", "cogact"])
def test_pruned_prompts_multiply_what_torch_counts(
    name: str, mode: ReuseMode, oft_folder: Path, cogact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a frame that loses rows: what its layers multiply, to the last product, beside what decides on them."""
    monkeypatch.setattr(weight_packing, "LEAST_PACKED", {})
    monkeypatch.setattr(eager_attention, "BLOCK_ROWS", 10_000)
    policy = chunked(name, cogact_folder if name == "cogact" else oft_folder)
    own = {"fastv": FastVSettings(1, 0.5), "sparsevlm": SparseVLMSettings([0], 9.0), "tome": ToMeSettings([1], 0.5)}
    robot = LocalBatchPolicy(policy, 1, ReuseSettings(mode, **own))
    monkeypatch.setattr(robot.core.cache._actions, "refusal", lambda *_: None)
    decided = watched_products(monkeypatch)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        (answer,) = step(robot.core, [FrameRequest(seen(policy, 0), SessionRef("robot"))])
    assert isinstance(answer, Step)
    tokens, passes = answer.chunk.tokens.size, answer.report.passes
    parts = policy_work(policy, robot.plan, tokens, passes, robot.pruned)
    work = (vision_work(policy, 4), *parts, *head_work(policy, 4))

    assert answer.report.cache.pruned_ratio > 0
    assert sum(robot.pruned) > 0
    assert 2 * sum(part.macs for part in work) == counted.get_total_flops() - sum(decided)


def watched_products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The operations of all that decides which rows go, as torch counts them, one call after the other."""
    spent: list[int] = []

    def count(owner: type, name: str) -> None:
        whole = getattr(owner, name)

        def counted(*given: Any) -> Any:
            with FlopCounterMode(display=False) as counter:
                result = whole(*given)
            spent.append(counter.get_total_flops())
            return result

        monkeypatch.setattr(owner, name, counted)

    for owner, name in ((PromptPruning, "begin"), (PromptPruning, "look"), (PromptPruning, "prune")):
        count(owner, name)
    return spent


def chunked(name: str, folder: Path) -> PolicyModel:
    """A micro checkpoint in float32."""
    config = {"action_head": "discrete", "num_actions_chunk": 8} if name.endswith("discrete") else {}
    folder = GOLDENS / f"{name}-micro" if name.startswith("pi") else folder
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"), config=config)


def seen(policy: PolicyModel, turn: int) -> Observation:
    """A frame of noise, for no two alike."""
    noise = np.random.default_rng(turn)
    pictures = {camera: noise.integers(0, 255, (64, 64, 3), np.uint8) for camera in policy.info.cameras}
    state = None if policy.info.state is None else noise.uniform(-1, 1, len(policy.info.state.names))
    return Observation(pictures, "pick up the spoon", next(iter(policy.info.norm_stats)), state=state)
