from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from stillframe.domain import PRUNING_MODES, KeyframeReason, Observation, ReuseMode, SessionRef, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.models.cogact.diffusion import Denoising
from stillframe.models.cogact.model import CogACT
from stillframe.reuse.pruning_settings import SparseVLMSettings
from stillframe.reuse.settings import ReuseSettings

# Absolute, in fp32; measured: vision and rows 4e-7, cognition 6e-7, samples 3.4e-6, ensemble 1e-16.
VISION, ROWS, COGNITION, SAMPLES, ACTIONS, ENSEMBLE = 5e-5, 1e-5, 2e-5, 3e-5, 2e-5, 1e-5
KEYS = {"f0": "bridge_orig", "f1": "fractal20220817_data", "f2": "bridge_orig", "f3": "fractal20220817_data"}
FRAMES = ("f0", "f1", "f2", "f3")
DRAWN = 30  # chunks in the record


def cases(record: Mapping) -> list[tuple[str, str, Denoising, int]]:
    """Case, the frame and instruction that it is of, how it was drawn, and which noise."""
    found = []
    for name in sorted(key.removesuffix("/samples") for key in record if key.endswith("/samples")):
        frame, instruction, guidance, steps, noise = name.split("_")
        how = Denoising(int(steps.removeprefix("ddim")), float(guidance.removeprefix("cfg")))
        found.append((name, f"{frame}_{instruction}", how, int(noise[1:])))
    return found


def test_prompts_and_pixels_are_equal_to_the_bit(cogact_record: Mapping, cogact_walk: Mapping) -> None:
    """Ids end in the lone space and the cognition token; pixels have the reference's very bytes."""
    for name, (prepared, _, _) in cogact_walk.items():
        assert_array_equal(prepared.ids.numpy(), cogact_record[f"{name.split('_')[1]}/input_ids"].ravel())
        assert prepared.ids[-2:].tolist() == [29871, 2]
    pixels = cogact_walk["f0_i0"][0].pixels.numpy()
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == str(cogact_record["f0/pixel_sha256"])


@pytest.mark.parametrize("shot", FRAMES)
@torch.inference_mode()
def test_vision_and_projector_match(cogact_record: Mapping, cogact_walk: Mapping, cogact: CogACT, shot: str) -> None:
    """Both towers' features and the projected patches are the reference's."""
    prepared, rows, _ = cogact_walk[f"{shot}_i0"]

    features = cogact.network.vision_backbone(prepared.pixels)[0].numpy()
    assert_allclose(rows[1:257][::8].numpy(), cogact_record[f"{shot}/projector"], rtol=0, atol=ROWS)
    if f"{shot}/vision" in cogact_record:
        assert_allclose(features[::8], cogact_record[f"{shot}/vision"], rtol=0, atol=VISION)


def test_the_last_rows_hidden_state_matches(cogact_record: Mapping, cogact_walk: Mapping) -> None:
    """What steers the diffusion is the reference's: Llama 2's own rms eps, BOS before the picture, the final norm."""
    for name, (_, _, hidden) in cogact_walk.items():
        assert_allclose(hidden[-1].numpy(), cogact_record[f"{name}/cognition"], rtol=0, atol=COGNITION, err_msg=name)


@torch.inference_mode()
def test_drawn_chunks_match(cogact_record: Mapping, cogact_walk: Mapping, cogact: CogACT) -> None:
    """With every guidance and count of steps the chunk before the clip is the reference's, and so are its units."""
    compared = cases(cogact_record)
    assert len(compared) == DRAWN
    for name, frame, how, noise in compared:
        drawn = draw(cogact, cogact_walk[frame][2][-1], cogact_record["noise"][noise], how)
        assert_allclose(drawn, cogact_record[f"{name}/samples"], rtol=0, atol=SAMPLES, err_msg=name)
        decoded = cogact.scaled(KEYS[frame[:2]], drawn.astype(np.float64))
        assert_allclose(decoded.normalised, cogact_record[f"{name}/norm_actions"], rtol=0, atol=ACTIONS, err_msg=name)
        assert_allclose(decoded.chunk.actions, cogact_record[f"{name}/actions"], rtol=0, atol=ACTIONS, err_msg=name)


@torch.inference_mode()
def test_a_batch_draws_what_each_draws_alone(cogact_record: Mapping, cogact_walk: Mapping, cogact: CogACT) -> None:
    """The reference's batch of two prompts of different length, and ours."""
    condition = torch.stack([cogact_walk[name][2][-1] for name in ("f0_i0", "f1_i1")])
    drawn = cogact.draw(condition, torch.from_numpy(cogact_record["noise"])).double().numpy()

    for own, expected in zip(drawn, cogact_record["batch/norm_actions"], strict=True):
        assert_allclose(cogact.scaled("bridge_orig", own).normalised, expected, rtol=0, atol=ACTIONS)


@pytest.mark.parametrize("horizon", [2, 7])
@pytest.mark.parametrize("key", ["bridge_orig", "fractal20220817_data"])
def test_the_ensemble_matches(cogact_record: Mapping, key: str, horizon: int) -> None:
    """After each of four frames the weighted action is the reference's."""
    ensemble = AdaptiveEnsemble(horizon)

    made = np.stack([ensemble.add(seq, chunk) for seq, chunk in enumerate(cogact_record[f"seq/{key}/actions"])])
    assert_allclose(made, cogact_record[f"seq/{key}/ensemble_h{horizon}"], rtol=0, atol=ENSEMBLE)


def draw(policy: CogACT, condition: torch.Tensor, noise: np.ndarray, how: Denoising) -> np.ndarray:
    """One chunk, not clipped."""
    before, policy.denoising = policy.denoising, how
    try:
        return policy.draw(condition[None], torch.from_numpy(noise)[None])[0].numpy()
    finally:
        policy.denoising = before


def request(record: Mapping, place: SessionRef | None, shot: str = "f0") -> FrameRequest:
    """A frame of a session, or of none."""
    seen = Observation({"image": record[f"{shot}/frame"]}, "put the spoon on the towel", unnorm_key="bridge_orig")
    return FrameRequest(seen, place)


def chunks(core: EngineCore, *requests: FrameRequest) -> list[np.ndarray]:
    """The normalised chunks of one batch."""
    answers = step(core, requests)
    assert all(isinstance(answer, Step) for answer in answers), answers
    return [answer.chunk.actions for answer in answers if isinstance(answer, Step)]


def engine(policy: CogACT, mode: ReuseMode = "off") -> EngineCore:
    """An engine of its own over the shared weights."""
    return EngineCore.of(policy, ReuseSettings(mode=mode), time.perf_counter, default_sessions=2)


def test_a_frame_draws_by_its_place(cogact: CogACT, cogact_record: Mapping) -> None:
    """A session's frame computed again gives the same chunk; the next frame, and another session's, give others."""
    first = SessionRef("robot-1", 0, 0)
    (made,) = chunks(engine(cogact), request(cogact_record, first))
    (again,) = chunks(engine(cogact), request(cogact_record, first))
    (later,) = chunks(engine(cogact), request(cogact_record, replace(first, seq=1)))
    (other,) = chunks(engine(cogact), request(cogact_record, SessionRef("robot-2", 0, 0)))

    assert_array_equal(made, again)
    assert not np.allclose(made, later)
    assert not np.allclose(made, other)


def test_sessions_in_one_batch_get_what_each_gets_alone(cogact: CogACT, cogact_record: Mapping) -> None:
    """Two robots with pictures of their own, together and one after the other."""
    asked = [
        request(cogact_record, SessionRef("robot-1"), "f0"),
        request(cogact_record, SessionRef("robot-2"), "f3"),
    ]
    together = chunks(engine(cogact), *asked)
    alone = [chunks(engine(cogact), one)[0] for one in asked]

    for one, other in zip(together, alone, strict=True):
        assert_allclose(one, other, rtol=0, atol=ACTIONS)


@pytest.mark.parametrize("mode", ["exact", "adaptive", "paper", "static-only"])
def test_the_same_picture_again_drifts_by_nothing(cogact: CogACT, cogact_record: Mapping, mode: ReuseMode) -> None:
    """A delta frame of an unchanged scene and its dense pass draw the same chunk, for both have one seed."""
    core = engine(cogact, mode)
    place = SessionRef("robot-1")
    chunks(core, request(cogact_record, place))
    (answer,) = step(core, [request(cogact_record, replace(place, seq=1))])
    assert isinstance(answer, Step)
    (dense,) = chunks(engine(cogact), request(cogact_record, replace(place, seq=1)))

    assert answer.report.cache.keyframe_reason is None
    assert mode == "exact" or answer.report.cache.reuse_ratio > 0
    assert_allclose(answer.chunk.actions, dense, rtol=0, atol=ACTIONS)


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_its_prompt_can_be_pruned(cogact: CogACT, cogact_record: Mapping, mode: ReuseMode) -> None:
    """A chunk from fewer rows: another one than a dense pass draws by the same seed, and the same again alone."""
    place = SessionRef("robot-1")
    core = EngineCore.of(cogact, ReuseSettings(mode, sparsevlm=SparseVLMSettings([0], 4.0)), time.perf_counter)
    answers = step(core, [request(cogact_record, place), request(cogact_record, SessionRef("robot-2"), "f3")])
    assert all(isinstance(answer, Step) for answer in answers), answers
    (dense,) = chunks(engine(cogact), request(cogact_record, place))
    (alone,) = chunks(core, request(cogact_record, place))

    assert [answer.report.cache.keyframe_reason for answer in answers] == [KeyframeReason.PRUNED] * 2
    assert answers[0].report.cache.pruned_ratio > 0
    assert not np.allclose(answers[0].chunk.actions, dense)
    assert_allclose(answers[0].chunk.actions, alone, rtol=0, atol=ACTIONS)
