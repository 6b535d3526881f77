"""The rule: what is equal, what rounding explains, what is broken; and near ties against the logits themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.daemon.config import load_config
from stillframe.domain import ActionChunk, CacheReport, DraftReport, Step, StepReport
from stillframe.engine.kv_slots import kv_shape
from stillframe.models.base import PolicyModel
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.speculative import ROUNDING_MARGIN
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.testing import policy_info
from stillframe.tools.certify.arm import Arm
from stillframe.tools.certify.arms import PLAIN, ArmSpec, Promise, arm_specs
from stillframe.tools.certify.compare import CHUNK_BOUND, TickComparison, Took, broken_ticks, compared, verdict
from stillframe.tools.certify.near_ties import NearTie, WatchedRunner, near_tie
from stillframe.tools.certify.ticks import scene_ticks
from stillframe.tools.replay.player import PlayerSettings

INFO = policy_info()
KEY = next(iter(INFO.norm_stats))
NUMBERS = len(INFO.action_names)
BOUND = 0.01
CONFIG = {"checkpoint": "checkpoints/none", "device": "cpu", "dtype": "float32", "threads": 1}
few = settings(max_examples=settings().max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture])


def step(actions: np.ndarray, tokens: list[int] | None = None, *, bit_equal: bool = True) -> Step:
    """An answer."""
    chunk = ActionChunk(np.atleast_2d(actions), KEY, np.array(tokens or [], np.int64))
    cache = CacheReport("off", None, 0.25, 0, 0, 0, 0, bit_equal=bit_equal)
    return Step(chunk, StepReport({}, 3, cache, DraftReport()))


def spec(promise: Promise) -> ArmSpec:
    """An arm that promises this."""
    return replace(arm_specs(load_config(None, CONFIG), INFO, 2, [])[0], promise=promise)


def tick(promise: Promise, apart: float = 0.0, tie: NearTie | None = None, *, bit_equal: bool = True) -> TickComparison:
    """A comparison whose first number is so far off, in normalised units; tokens differ where a tie is given."""
    half = (INFO.norm_stats[KEY]["q99"][0] - INFO.norm_stats[KEY]["q01"][0]) / 2
    plain, other = np.zeros(NUMBERS), np.zeros(NUMBERS)
    other[0] = apart * half
    ids = [1] * NUMBERS, [2 if tie else 1] * NUMBERS
    one, two = step(plain, ids[0]), step(other, ids[1], bit_equal=bit_equal)
    return compared(spec(promise), 0, one, two, Took(2.5, 1.5), tie, INFO)


@pytest.mark.parametrize(
    ("promise", "bit_equal", "apart", "tie", "said"),
    [
        ("equal", True, 0.0, None, "equal"),
        ("equal", True, BOUND / 2, None, "broken"),
        ("as reported", True, BOUND / 2, None, "broken"),
        ("as reported", False, BOUND / 2, None, "within rounding"),
        ("as reported", False, BOUND * 2, None, "broken"),
        ("rounding", True, BOUND / 2, None, "within rounding"),
        ("rounding", True, BOUND * 2, None, "broken"),
        ("rounding", True, 1.0, NearTie(0, lead=0.1, reach=0.2), "within rounding"),
        ("rounding", True, BOUND / 2, NearTie(0, lead=0.3, reach=0.2), "broken"),
        ("none", True, 1.9, None, "approximate"),
        ("none", True, 0.0, None, "equal"),
    ],
)
def test_the_verdict(promise: Promise, bit_equal: bool, apart: float, tie: NearTie | None, said: str) -> None:  # noqa: FBT001
    """By what was promised: to the bit, where the answer says so, within rounding, or nothing."""
    assert verdict(promise, [tick(promise, apart, tie, bit_equal=bit_equal)], BOUND, repeatable=True) == said


def test_on_a_machine_that_does_not_repeat_equality_is_held_to_rounding() -> None:
    """What plain answers do not do, others cannot."""
    near, far = tick("equal", BOUND / 2), tick("equal", BOUND * 2)

    assert verdict("equal", [near], BOUND, repeatable=False) == "within rounding"
    assert verdict("equal", [far], BOUND, repeatable=False) == "broken"


@given(st.sampled_from(get_args(Promise)), st.lists(st.floats(0, 2, width=32), min_size=1, max_size=5), st.booleans())
def test_one_broken_tick_breaks_an_arm(promise: Promise, apart: list[float], repeatable: bool) -> None:  # noqa: FBT001
    """And a verdict never says more than its ticks do."""
    ticks = [tick(promise, one) for one in apart]
    broken = broken_ticks(promise, ticks, BOUND, repeatable=repeatable)
    said = verdict(promise, ticks, BOUND, repeatable=repeatable)

    assert (said == "broken") == bool(broken)
    assert (said == "equal") == (all(one.equal for one in ticks) and not broken)
    assert all(broken_ticks(promise, [one], BOUND, repeatable=repeatable) for one in broken)
    assert promise != "none" or not broken


def test_what_is_counted() -> None:
    """Numbers in the robot's units, whole actions, tokens; -0 is 0, and another length is no equality."""
    plain = step(np.zeros((3, NUMBERS)), [1] * 3 * NUMBERS)
    moved = np.zeros((3, NUMBERS))
    moved[1, 0], moved[1, 1], moved[2, 0] = 0.25, -0.5, -0.0
    one = compared(spec("none"), 4, plain, step(moved, [1, 2] + [1] * (3 * NUMBERS - 2)), Took(2.5, 1.5), None, INFO)
    short = compared(
        spec("none"), 4, plain, step(np.zeros((2, NUMBERS)), [1] * 2 * NUMBERS), Took(2.5, 1.5), None, INFO
    )

    assert (one.tick, one.took.cpu_ms, one.tokens, one.tokens_differ, one.actions_differ) == (4, 1.5, 3 * NUMBERS, 1, 1)
    assert (one.apart.shape, one.apart[1, :2].tolist(), one.apart[2, 0]) == ((3, NUMBERS), [0.25, 0.5], 0)
    assert (one.reuse_ratio, one.passes, one.equal) == (0.25, 3, False)
    assert (short.equal, short.actions_differ) == (False, 0)


def test_bounds_are_of_the_dtype() -> None:
    """The coarser one's is wider, and neither comes near a number's whole range."""
    assert 0 < CHUNK_BOUND["float32"] < CHUNK_BOUND["bfloat16"] < 0.1


@pytest.fixture(scope="module")
def plain(tiny_model: PolicyModel) -> Arm:
    """The plain arm of the tiny checkpoint."""
    deployment = load_config(None, CONFIG)
    (first, *_) = arm_specs(deployment, tiny_model.info, 2, [])
    assert first.name == PLAIN
    return Arm(first, tiny_model, deployment)


@few
@given(token=st.integers(0, 6), other=st.integers(0, 255), seed=st.integers(0, 3))
def test_a_lead_is_that_of_the_logits(plain: Arm, tiny_model: PolicyModel, token: int, other: int, seed: int) -> None:
    """Of one pass over the frame and its whole answer: the plain token is ahead of any other, by as much."""
    ticks = scene_ticks(tiny_model.info, PlayerSettings(), 1, seed)
    answer = plain.answer(ticks, 0).step.chunk.tokens
    plain.forget()
    chosen = answer.copy()
    chosen[token] = tiny_model.decoder.config.vocab_size - 1 - other
    if chosen[token] == answer[token]:
        return
    chosen[token + 1 :] = -1  # what follows does not matter
    runner = plain.core.runner
    assert isinstance(runner, WatchedRunner)
    tie = near_tie(runner, answer, chosen)
    logits = whole_logits(tiny_model, ticks[0].observation, answer)[token]

    assert tie.token == token
    assert tie.lead == pytest.approx(float(logits[answer[token]] - logits[chosen[token]]), abs=1e-3)
    assert tie.lead >= 0
    assert tie.reach > 0
    assert tie.explains == (tie.lead <= tie.reach)


@torch.inference_mode()
def whole_logits(model: PolicyModel, seen: object, answer: np.ndarray) -> torch.Tensor:
    """[tokens, vocabulary] of one dense pass with the answer behind the prompt."""
    prepared = model.prepare(seen)  # type: ignore[arg-type]
    (rows,) = model.embed([prepared])
    kv = FrameKV(replace(kv_shape(model, 64), capacity=prepared.layout.total_rows).allocate())
    plan = ReusePlan.whole(len(rows), model.decoder.config.num_hidden_layers, 256, rows.device)
    hidden = DecoderRunner(model.decoder).prefill(rows, plan, kv, draft_ids=torch.from_numpy(answer[:-1]))
    return model.decoder.logits(hidden[-len(answer) :])


def test_reach_is_the_engines_own_margin(plain: Arm, tiny_model: PolicyModel) -> None:
    """That by which strict drafts tell a decisive lead."""
    ticks = scene_ticks(tiny_model.info, PlayerSettings(), 1, 0)
    answer = plain.answer(ticks, 0).step.chunk.tokens
    runner = plain.core.runner
    assert isinstance(runner, WatchedRunner)
    row = runner.last[0].hidden[-len(answer)]
    unit = torch.finfo(row.dtype).eps * tiny_model.decoder.max_head_norm * float(row.norm())
    other = answer.copy()
    other[0] -= 1

    assert near_tie(runner, answer, other).reach == pytest.approx(ROUNDING_MARGIN[row.dtype] * unit, rel=1e-5)
