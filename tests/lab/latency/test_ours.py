from __future__ import annotations

from collections.abc import Sequence
from time import thread_time

import pytest
import torch

from stillframe.models.base import PolicyModel
from stillframe.models.llama import speculative
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.latency.ours import DraftSource, GreedyOracle, StillframeVariant
from stillframe_lab.latency.race import StepResult, VariantInfo
from stillframe_lab.latency.scene import Scene
from stillframe_lab.latency.variants import settings

OFF = ReuseSettings()
TURNS = range(5)


def answered(ours: StillframeVariant, scene: Scene) -> list[StepResult]:
    """Some frames' answers."""
    answers: list[StepResult] = []
    for turn in TURNS:
        ours.before(scene, turn)
        answers.append(ours([scene.shot("moving", turn, robot) for robot in range(ours.entry.robots)]))
        ours.after()
    return answers


def ours(model: PolicyModel, drafts: DraftSource, reuse: ReuseSettings = OFF, robots: int = 1) -> StillframeVariant:
    """Some robots, with an oracle where one is needed."""
    oracle = GreedyOracle(model, robots, reuse) if drafts == "right" else None
    return StillframeVariant(VariantInfo("ours", "float32", robots), model, thread_time, reuse, drafts, oracle)


def test_a_forced_right_draft_is_accepted(tiny: PolicyModel, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then one pass is enough, for every robot's frame, and the tokens are the greedy ones.

    Where rounding is not feared: some frames' tokens are so nearly as good as others that a second pass has to say.
    """
    monkeypatch.setitem(speculative.ROUNDING_MARGIN, torch.float32, 0.0)
    told, greedy = answered(ours(tiny, "right", robots=2), scene), answered(ours(tiny, "none", robots=2), scene)

    assert [answer.passes for answer in told] == [1] * len(TURNS)
    assert [answer.accepted for answer in told] == [7] * len(TURNS)
    assert said(told) == said(greedy)


def test_a_forced_wrong_draft_never_hits(tiny: PolicyModel, scene: Scene) -> None:
    """No guess is accepted, and the tokens are the greedy ones all the same."""
    wrong, greedy = answered(ours(tiny, "wrong"), scene), answered(ours(tiny, "none"), scene)

    assert {answer.accepted for answer in wrong} == {0}
    assert {answer.passes for answer in greedy} == {7}
    assert all(answer.passes > 1 for answer in wrong)
    assert said(wrong) == said(greedy)


@pytest.mark.parametrize("robots", [1, 3])
def test_half_is_reused_where_that_is_forced(tiny: PolicyModel, scene: Scene, robots: int) -> None:
    """From the second frame on, of every robot, whatever moves."""
    half = settings(OFF, tiny.prepare(scene.shots[0].observation()).layout)["forced"]
    ratios = [answer.reuse_ratio for answer in answered(ours(tiny, "own", half, robots), scene)]

    assert ratios == [0.0, *[pytest.approx(0.5, abs=0.01)] * (len(TURNS) - 1)]


def test_an_oracle_answers_a_turn_once(tiny: PolicyModel, scene: Scene) -> None:
    """However often it is asked: its robots' sessions go on by one frame a turn, as those of whom it tells."""
    oracle = GreedyOracle(tiny, 2, OFF)
    first, again, second = oracle.tokens(scene, 0), oracle.tokens(scene, 0), oracle.tokens(scene, 9)

    assert first is again
    assert first[0].tolist() != second[0].tolist()


def test_a_fleets_work_is_a_robots_work_but_for_the_weights(tiny: PolicyModel, scene: Scene) -> None:
    """Two robots multiply twice as much, and do not read twice as much."""
    (one, *_), (two, *_) = (answered(ours(tiny, "right", robots=robots), scene) for robots in (1, 2))

    assert [part.macs for part in two.work] == [2 * part.macs for part in one.work]
    assert all(part.read_bytes < 2 * whole.read_bytes for part, whole in zip(two.work, one.work, strict=True))


def said(answers: Sequence[StepResult]) -> list[list[list[int]]]:
    """Their tokens, robot by robot."""
    return [[ids.tolist() for ids in answer.tokens] for answer in answers]
