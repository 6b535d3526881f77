from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_lab.evaluation import race as speed
from stillframe_lab.evaluation.race import race
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace
from stillframe_lab.evaluation.turns import interleaved

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel

OFF = ReuseSettings(mode="off")
FORCED = AdaptiveSettings(distance=2.0, top_k=3, task_top_k=0, age_limit=10_000, keyframe_every=10_000, scene_cut=0.0)


class Runner:
    """An actor on a clock that everybody shares: it says how long it takes, and whether its frames are whole."""

    now_s = 0.0
    told: list[str] = []  # noqa: RUF012 -- shared on purpose

    def __init__(self, name: str, takes_s: float, whole: set[int]):
        self.name, self.takes_s, self.whole = name, takes_s, whole
        self.trace, self.asked = Trace(), 0

    def reset(self) -> None:
        """A new episode."""
        Runner.told.append("reset")

    def rest(self) -> None:
        """Takes long, and nobody waits."""
        Runner.now_s += 100.0

    def __call__(self, _: object) -> None:
        """Answer."""
        Runner.told.append(self.name)
        Runner.now_s += self.takes_s
        reason = "off" if self.name == "off" else "drift" if self.asked in self.whole else None
        stages_ms = {"prefill": 500 * self.takes_s, "plan": 0.0}
        self.trace.frames.append(
            AnsweredFrame("m", reason, 0.5 if self.name != "off" else 0.0, 5, 10, stages_ms, gmacs=1.0)
        )
        self.asked += 1


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two arms: one that takes a second, one that takes half of it and whose third frame is whole."""
    Runner.now_s, Runner.told = 0.0, []
    made = iter([Runner("off", 1.0, set()), Runner("fast", 0.5, {0, 2})])
    monkeypatch.setattr(speed, "LocalActor", lambda *_, **__: next(made))
    return lambda pictures: race(
        None,  # type: ignore[arg-type] # nobody looks
        [[{}] * pictures],
        {"off": OFF, "fast": OFF},
        clock=lambda: Runner.now_s,
    )


def test_the_arms_take_turns(track: Any) -> None:
    """Every picture goes to every arm, and another one begins each time: neither has the warmer cache."""
    track(4)

    assert Runner.told == ["reset", "reset", "off", "fast", "fast", "off", "off", "fast", "fast", "off"]


def test_no_arm_always_follows_the_same_one() -> None:
    """Everybody once a turn; who comes after somebody big changes, so that a cold cache is nobody's lot."""
    rounds = [interleaved("abcdef", turn) for turn in range(12)]
    after = {one[one.index("a") + 1] for one in rounds if one[-1] != "a"}

    assert all(sorted(one) == [*"abcdef"] for one in rounds)
    assert {one[0] for one in rounds} == {*"abcdef"}
    assert len(after) > 1


def test_like_is_compared_with_like(track: Any) -> None:
    """First pictures and those that an arm computed whole count for nobody; resting is not timed."""
    rows = track(5)

    assert [row["frames"] for row in rows.values()] == [3, 3]
    assert rows["off"]["latency_ms"]["p50"] == pytest.approx(1000.0)
    assert rows["fast"]["latency_ms"]["p50"] == pytest.approx(500.0)
    assert rows["fast"]["speedup"] == rows["fast"]["prefill_speedup"] == pytest.approx(2.0)
    assert rows["off"]["speedup"] == 1.0


def test_a_race_of_keyframes_has_no_figures(track: Any) -> None:
    """One picture is nobody's delta frame: null, not an error."""
    assert track(1)["fast"]["latency_ms"] == {"p50": None, "p99": None}


def test_a_real_race_reuses_what_was_forced(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """Three patches and BOS on every picture but the first; fewer multiply-adds for it."""
    picture = goldens["f0"].picture
    episode = [{"images": {"front": np.roll(picture, step, axis=1)}, "instruction": "wait"} for step in range(4)]
    forced = ReuseSettings(mode="adaptive", slack=False, gap_s=3600, adaptive=FORCED)
    rows = race(golden_model, [episode], {"off": OFF, "3 tokens": forced})

    assert [row["frames"] for row in rows.values()] == [3, 3]
    assert rows["off"]["reuse_ratio"] == 0.0
    assert rows["3 tokens"]["reuse_ratio"] > 0
    assert rows["3 tokens"]["decoder_gmacs"] < rows["off"]["decoder_gmacs"]
