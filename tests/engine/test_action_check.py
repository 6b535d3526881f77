from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import ActionChunk, KeyframeReason, Observation, SessionRef
from stillframe.engine.action_check import ActionCheck
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import Flaw, Internal, not_an_action
from stillframe.models.base import Decoded, Prepared
from stillframe.models.llama.layout import TokenLayout
from stillframe.testing import policy_info

Make = Callable[..., Any]

NAMES = ("dx", "dy", "gripper")
UNITS = {"q01": [-0.02, 0.1, 0.0], "q99": [0.04, 0.1, 1000.0], "mask": [True, True, False]}
INFO = policy_info(
    name="headed",
    family="headed",
    parameters=1,
    image_size=(8, 8),
    action_names=NAMES,
    gripper="",
    chunk_horizon=2,
    norm_stats={"jaco": UNITS},
    default_unnorm_key="jaco",
)
LAYOUT = TokenLayout({"front": range(1, 2)}, (1, 1), text=range(2, 3), action=range(3, 4))
SAID = Prepared({}, torch.empty(0), torch.empty(0), LAYOUT, "jaco", np.zeros(6, np.int64), range(100, 110))
NUMBERS = replace(SAID, actions=None)  # a family with a head of numbers
UNIT = np.array([[0.0, 0.0, 500.0], [1.0, -1.0, -1.0]])
ACTIONS = np.array([[0.01, 0.1, 500.0], [0.04, 0.1, -1.0]])
IDS = np.arange(100, 106)


def decoded(unit: Any = UNIT, actions: Any = ACTIONS, ids: Any = IDS, **refresh: Any) -> Decoded:
    """What a family returns."""
    return Decoded(ActionChunk(np.asarray(actions), "jaco", ids), np.asarray(unit), 0, **refresh)


def flaw(answer: Decoded, prepared: Prepared = SAID) -> Flaw | None:
    """Why it is refused."""
    refusal = ActionCheck(INFO).refusal(prepared, answer)
    return None if refusal is None else refusal.flaw


def spoilt(values: np.ndarray, at: tuple[int, int], number: float) -> np.ndarray:
    """One number is another."""
    out = values.copy()
    out[at] = number
    return out


def test_an_action_passes() -> None:
    """Within its statistics, on their ends, and as far beyond as a regression may be."""
    assert flaw(decoded()) is None
    assert flaw(decoded(spoilt(UNIT, (0, 0), 1.9), spoilt(ACTIONS, (0, 0), 0.067))) is None
    assert flaw(decoded(spoilt(UNIT, (1, 2), 1400.0), spoilt(ACTIONS, (1, 2), 1400.0))) is None


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (1, 2)])
def test_numbers_that_are_none(at: tuple[int, int], number: float) -> None:
    """In either form, in any step of the chunk, scaled or passed through."""
    assert flaw(decoded(unit=spoilt(UNIT, at, number))) is Flaw.NON_FINITE
    assert flaw(decoded(actions=spoilt(ACTIONS, at, number)), NUMBERS) is Flaw.NON_FINITE


@pytest.mark.parametrize(
    ("at", "unit", "action"),
    [
        ((1, 0), 2.1, 0.04),
        ((1, 0), -900.0, 0.01),
        ((0, 0), 0.0, 0.08),  # a scale that is not that of the statistics
        ((0, 0), 0.0, -0.06),
        ((0, 1), 0.0, 0.2),  # a dimension that is constant in the data
        ((1, 2), 1600.0, 1600.0),
        ((1, 2), -600.0, -600.0),
        ((0, 0), 1e300, 1e300),
    ],
)
def test_numbers_far_beyond_the_statistics(at: tuple[int, int], unit: float, action: float) -> None:
    """No demonstration went there; the problem names dimension, number and range."""
    answer = decoded(spoilt(UNIT, at, unit), spoilt(ACTIONS, at, action))
    refusal = ActionCheck(INFO).refusal(NUMBERS, answer)

    assert refusal is not None
    assert (refusal.code, refusal.flaw) == ("not-an-action", Flaw.OUT_OF_RANGE)
    assert f"The policy said {NAMES[at[1]]} = " in refusal.detail
    assert f" in action {at[0]}; " in refusal.detail


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (1, 3), (3, 3), (3,), (6,), (0, 3), (1, 2, 3)])
def test_shapes_that_the_contract_does_not_name(shape: tuple[int, ...]) -> None:
    """Too few, too many, of another horizon: in either form."""
    assert flaw(decoded(unit=np.zeros(shape))) is Flaw.WRONG_SHAPE
    assert flaw(decoded(actions=np.zeros(shape))) is Flaw.WRONG_SHAPE


@pytest.mark.parametrize("kind", [np.bool_, np.complex128, np.object_])
def test_what_is_no_number(kind: Any) -> None:
    """Only real numbers move an arm."""
    assert flaw(decoded(actions=np.zeros((2, 3), kind))) is Flaw.WRONG_SHAPE


@pytest.mark.parametrize("token", [0, 99, 110, -1, 2**40])
def test_tokens_of_text(token: int) -> None:
    """Whatever value a family gave them; a family that says no tokens is not asked for any."""
    ids = np.append(IDS[:-1], token)

    assert flaw(decoded(ids=ids)) is Flaw.NO_ACTION_TOKEN
    assert flaw(decoded(ids=ids), NUMBERS) is None


def test_what_the_family_says_itself_comes_first() -> None:
    """It knows why."""
    why = not_an_action(Flaw.FLAT, "Flat.")

    assert ActionCheck(INFO).refusal(SAID, decoded(np.full((2, 3), np.nan), refusal=why)) is why


def test_statistics_without_a_mask_scale_everything() -> None:
    """As `models.actions` reads them."""
    info = replace(INFO, norm_stats={"jaco": {name: UNITS[name] for name in ("q01", "q99")}})

    assert ActionCheck(info).refusal(NUMBERS, decoded()) is not None
    assert ActionCheck(info).refusal(NUMBERS, decoded(np.zeros((2, 3)), [[0.01, 0.1, 500.0]] * 2)) is None


def test_a_refused_answer_leaves_nothing(robots: Make, picture: Make) -> None:
    """No draft, no KV, no older frame: the next frame is whole, and gets what it would have got."""
    bench = robots()
    bench.see(picture(0))
    scores, act = dict(bench.session("a").drafts.scores), bench.model.act
    bench.model.act = lambda *given: [replace(one, normalised=one.normalised + 9) for one in act(*given)]
    with pytest.raises(Internal) as refused:
        bench.see(picture(1))
    bench.model.act = act

    assert (refused.value.code, refused.value.status) == ("not-an-action", 500)
    assert bench.session("a").drafts.scores == scores
    assert bench.see(picture(1)).report.cache.keyframe_reason is KeyframeReason.INTEGRITY
    assert bench.steps[-1].chunk.tokens.tolist() == bench.tokens(picture(1))


@pytest.mark.parametrize(("number", "found"), [(float("nan"), Flaw.NON_FINITE), (0.0, Flaw.FLAT)])
def test_a_head_that_says_nothing_moves_no_robot(robots: Make, picture: Make, number: float, found: Flaw) -> None:
    """All tokens alike, or one that is never likely NaN: argmax would find the first of the vocabulary."""
    bench = robots()
    head = bench.model.decoder.lm_head.weight
    head[... if found is Flaw.FLAT else 60] = number
    with pytest.raises(Internal) as refused:
        bench.see(picture(0))

    assert refused.value.flaw is found


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_later_pass_is_looked_at_as_well(robots: Make, picture: Make, number: float) -> None:
    """The prefill is sound, a pass over the guesses is not: be it in a token that is never likely."""
    bench = robots(decoding=DecodingSettings("off"))
    logits, calls = bench.model.decoder.logits, []

    def spoilt_later(hidden: torch.Tensor) -> torch.Tensor:
        out = logits(hidden)
        calls.append(len(out))
        if len(calls) == 3:
            out[-1, 60] = number
        return out

    bench.model.decoder.logits = spoilt_later
    with pytest.raises(Internal) as refused:
        bench.see(picture(0))

    assert len(calls) >= 3
    assert refused.value.flaw is Flaw.NON_FINITE


def test_a_pause_that_finds_no_action_measures_no_drift(robots: Make, picture: Make, changed: Make) -> None:
    """Its dense pass says none: nothing is refreshed, no caution is learnt, the session's next frame is whole."""
    bench = robots()
    bench.see(picture(0))
    bench.see(changed(picture(0), 3))
    head = bench.model.decoder.lm_head.weight
    before = head.clone()
    head[60] = float("inf")
    with pytest.raises(Internal) as refused:
        bench.refresh()
    head.copy_(before)

    assert refused.value.flaw is Flaw.NON_FINITE
    assert (bench.session("a").pending, bench.session("a").caution.level) == (None, 0.0)
    assert bench.see(picture(0)).report.cache.keyframe_reason is KeyframeReason.INTEGRITY


def test_of_several_frames_only_the_one_is_refused(robots: Make, picture: Make) -> None:
    """The others of a batch get their actions."""
    bench = robots()
    act = bench.model.act

    def spoil(*given: Any) -> list[Decoded]:
        first, *rest = act(*given)
        return [replace(first, normalised=first.normalised * 1e3), *rest]

    bench.model.act = spoil
    batch = [FrameRequest(Observation({"front": picture(at)}, "go"), SessionRef(name)) for at, name in enumerate("ab")]
    answers = step(bench.core, batch)
    bench.model.act = act

    assert isinstance(answers[0], Internal)
    assert answers[1].chunk.tokens.tolist() == bench.tokens(picture(1), says="go")
