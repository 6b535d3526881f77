from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stillframe_lab.latency.race import RaceLimits, StepResult, VariantInfo, race
from stillframe_lab.latency.scene import Scene, SceneFrame


class Runner:
    """Takes a second more than the one before it, on a clock that everybody shares."""

    def __init__(self, name: str, takes_s: float, track: Track, robots: int = 1):
        self.entry, self._takes_s, self._track = VariantInfo(name, "float32", robots), takes_s, track

    def before(self, scene: Scene, turn: int) -> None:  # noqa: ARG002 (the seam's shape)
        """Takes long, and is nobody's time."""
        self._track.now_s += 100.0
        self._track.turns.append(turn)

    def __call__(self, shots: Sequence[SceneFrame]) -> StepResult:
        """Answer."""
        self._track.now_s += self._takes_s
        self._track.told.append((self.entry.name, [shot.jpeg for shot in shots]))
        return StepResult({"prefill": 1.0}, 1, 0, 0.0, (np.zeros(7, np.int64),))

    def after(self) -> None:
        """Takes long too."""
        self._track.now_s += 100.0


class Track:
    """A clock, and what happened."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.told: list[tuple[str, list[bytes]]] = []
        self.turns: list[int] = []

    def race(self, limits: RaceLimits, robots: int = 1) -> list[Any]:
        """Three runners."""
        runners = [Runner(name, 1.0 + place, self, robots) for place, name in enumerate("abc")]
        scene = Scene([SceneFrame(bytes([number]), "go") for number in range(40)])
        return race(runners, scene, limits, lambda: self.now_s, lambda: self.now_s, lambda *_: None)


def test_every_variant_answers_every_frame_and_another_one_is_first_each_time() -> None:
    """So that none has the warmer cache, and all are asked about the same."""
    track = Track()
    track.race(RaceLimits(4, 1e9, warm_up=0))

    assert "".join(name for name, _ in track.told) == "abcbcacababc"
    assert [shots for _, shots in track.told] == [[bytes([turn])] for turn in range(4) for _ in "abc"]


def test_only_answering_is_timed_and_warming_up_does_not_count() -> None:
    """Preparations and pauses are nobody's; the frames go on after the warm-up where it stopped."""
    track = Track()
    timed = track.race(RaceLimits(3, 1e9, warm_up=2))

    assert [one.total_ms for one in timed] == [[1e3] * 3, [2e3] * 3, [3e3] * 3]
    assert track.turns == [turn for turn in range(5) for _ in "abc"]


@pytest.mark.parametrize(("rounds", "seconds", "timed"), [(10, 0.0, 3), (10, 2_000.0, 4), (2, 1e9, 2)])
def test_a_race_ends_in_time_but_not_before_three_rounds(rounds: int, seconds: float, timed: int) -> None:
    """A round takes 606 s here."""
    (first, *_) = Track().race(RaceLimits(rounds, seconds))

    assert len(first.answers) == len(first.total_ms) == timed


def test_robots_see_what_is_theirs() -> None:
    """Each is somewhere else in the episode."""
    track = Track()
    track.race(RaceLimits(1, 1e9, warm_up=0), robots=3)

    assert track.told[0][1] == [b"\x00", b"\x07", b"\x0e"]
