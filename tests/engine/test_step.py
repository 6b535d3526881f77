from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from stillframe.domain import DraftReport, Observation, SessionRef, Step
from stillframe.engine import step as the_loop
from stillframe.engine.core import EngineCore
from stillframe.engine.device import wait_for
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import Internal, Unprocessable
from stillframe.models.base import PolicyModel, Prefilled
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.llama.speculative import speculative_decode
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.recipe import Recipe


def run_rows(decoder: Decoder, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(decoder).forward([SequenceSlice(rows, first, kv)])[0]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PolicyModel:
    """A fresh OpenVLA of random weights."""
    sizes = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2, "width": 16, "layers": 3, "heads": 2}
    recipe = replace(Recipe(), **sizes, feed_forward=24)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, dict(new_network(recipe).state_dict()), recipe)
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def core(policy: PolicyModel) -> EngineCore:
    """Storage for one session and the spare, and no reuse."""
    return EngineCore.of(policy, ReuseSettings(kv_budget_mib=1), lambda: 0.0)


def seen(seed: int, instruction: str = "reach the red cube") -> Observation:
    """A noise picture and an instruction."""
    picture = np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    return Observation({"front": picture}, instruction)


def asked(seed: int, instruction: str = "reach the red cube") -> FrameRequest:
    """The same, of no session."""
    return FrameRequest(seen(seed, instruction))


def one(core: EngineCore, asked: FrameRequest, clock: Clock) -> Step:
    """A frame's answer, computed alone."""
    (answer,) = step(replace(core, clock=clock), [asked])
    if not isinstance(answer, Step):
        raise answer
    return answer


def storage(policy: PolicyModel, observation: Observation) -> FrameKV:
    """Empty storage for exactly this frame."""
    return FrameKV(kv_shape(policy, len(policy.prepare(observation).layout.text)).allocate())


def test_a_frame_is_walked_whole(policy: PolicyModel, core: EngineCore) -> None:
    """Prepare, embed, prefill and decode, in that order and nothing else, make the action."""
    answer = one(core, asked(0), itertools.count().__next__)
    with torch.inference_mode():
        prepared = policy.prepare(seen(0))
        (rows,), kv = policy.embed([prepared]), storage(policy, seen(0))
        whole, draft = ReusePlan.whole(len(rows), 3, 256, policy.device), Draft(prepared.no_motion_tokens)
        hidden = DecoderRunner(policy.decoder).prefill(rows, whole, kv, None, draft.input_ids)
        (spoken,) = speculative_decode(DecoderRunner(policy.decoder), [Prefilled(prepared, hidden, kv, draft)])

    assert_array_equal(answer.chunk.tokens, spoken.ids)
    assert answer.report.passes == 1 + spoken.passes
    assert answer.chunk.actions.shape == (1, 7)
    assert answer.chunk.unnorm_key == "jaco_sim"


def test_the_report_says_where_the_time_went(core: EngineCore) -> None:
    """Stages in the order of the walk, by the clock that was passed in; the queue's share is the caller's."""
    ticks = iter([10.0, 10.001, 10.003, 10.007, 10.015, 10.031, 10.063])
    report = one(core, replace(asked(0), entered_s=9.9975), ticks.__next__).report

    assert list(report.stages_ms) == ["queue", "prepare", "vision", "plan", "prefill", "decode", "keep"]
    assert list(report.stages_ms.values()) == pytest.approx([2.5, 1, 2, 4, 8, 16, 32])
    assert report.total_ms == pytest.approx(65.5)


def test_every_stage_waits_for_the_device(core: EngineCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that works on after it was asked is waited for once a stage, before the clock is read."""
    now_s = 0.0

    def work_on() -> None:
        nonlocal now_s
        now_s += 0.001

    monkeypatch.setattr(the_loop, "wait_for", lambda _: work_on)
    report = one(core, asked(0), lambda: now_s).report

    assert list(report.stages_ms.values()) == pytest.approx([0, 1, 1, 1, 1, 1, 1])


def test_only_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU that the weights are on is synchronised; with a CPU there is nothing to wait for."""
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    wait_for(torch.device("cpu"))()
    wait_for(torch.device("cuda", 1))()

    assert waited == [torch.device("cuda", 1)]


def test_without_drafts_a_token_takes_a_pass(policy: PolicyModel, core: EngineCore) -> None:
    """The prefill gives the first token, each of the six passes after it one more; the tokens are the same."""
    plain = EngineCore.of(policy, ReuseSettings(kv_budget_mib=1), lambda: 0.0, decoding=DecodingSettings("off"))
    greedy = one(plain, asked(0), itertools.count().__next__)
    places = [SessionRef("arm", seq=seq) for seq in range(2)]
    drafted = [one(core, replace(asked(0), session=at), itertools.count().__next__) for at in places]

    assert greedy.report.passes == 7
    assert greedy.report.draft == DraftReport("off", "still", 0)
    assert drafted[1].report.passes < 7  # the same again is right
    for answer in drafted:
        assert_array_equal(answer.chunk.tokens, greedy.chunk.tokens)


def test_frames_of_no_session_leave_nothing_behind(core: EngineCore) -> None:
    """A frame between two equal ones changes neither: both give the same tokens and actions."""
    first, _, again = (one(core, asked(seed), itertools.count().__next__).chunk for seed in (0, 1, 0))

    assert_array_equal(first.tokens, again.tokens)
    assert_array_equal(first.actions, again.actions)


def test_pictures_and_instructions_both_matter(policy: PolicyModel) -> None:
    """Another picture, or another instruction, moves the hidden row that the action is read from."""
    with torch.inference_mode():
        last = []
        for observation in (seen(0), seen(1), seen(0, "reach the blue cube")):
            prepared = policy.prepare(observation)
            (rows,) = policy.embed([prepared])
            last.append(run_rows(policy.decoder, rows, 0, storage(policy, observation))[-1])

    assert (last[0] - last[1]).abs().max() > 1e-3
    assert (last[0] - last[2]).abs().max() > 1e-3


def test_what_cannot_be_served_is_refused_before_the_device(core: EngineCore) -> None:
    """An observation without a picture ends in `prepare`, as the error of the request that it is."""
    clock = iter([0.0, 0.0])

    with pytest.raises(Unprocessable, match="exactly one picture; got: none"):
        one(core, FrameRequest(Observation({}, "wait")), clock.__next__)


def test_storage_holds_exactly_one_frame(policy: PolicyModel) -> None:
    """Keys and values for prompt and action, of the decoder's sizes and the weights' dtype."""
    prepared = policy.prepare(seen(0))
    kv, config = storage(policy, seen(0)), policy.decoder.config
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4

    assert kv.capacity == prepared.layout.total_rows == 256 + len(prepared.ids) + 7
    assert kv.nbytes == kv.capacity * per_token


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_last_row_that_is_not_finite_is_refused(
    core: EngineCore, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    """A single number of it is enough, whatever the rows before it hold: it has looked at them all."""

    def spoilt(*parts: Any) -> list[torch.Tensor]:
        hidden = forward(*parts)
        if prefills:
            hidden[0][-1, -1] = prefills.pop()
        return hidden

    forward, prefills = DecoderRunner.forward, [number]
    monkeypatch.setattr(DecoderRunner, "forward", spoilt)
    with pytest.raises(Internal, match="NaN or infinity"):
        one(core, asked(0), itertools.count().__next__)
