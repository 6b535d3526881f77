"""The demo that goes on: its pace, and its way through the plan."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from stillframe.testing import ManualClock
from stillframe_lab.demo import watch
from stillframe_lab.demo.run import PLAN
from stillframe_lab.demo.watch import Paced, play_on


@dataclass
class Scene:
    """Stands where the demo takes its scene from: episodes of two steps."""

    cameras: tuple[str, ...] = ("front",)
    began: list[Any] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    steps: int = 0
    resets: int = 0
    closed: int = 0

    def __call__(self, **_: Any) -> Scene:
        """Build it."""
        return self

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode, of the scene, or of the policy's session."""
        if seed is None:
            self.resets += 1
            return None
        self.began.append((seed, options))
        self.steps = 0
        self.seen = {"instruction": f"{options['task']} {options['colour']}"}
        return self.seen, {}

    def step(self, _: object) -> Any:
        """The second step succeeds."""
        self.steps += 1
        info = {"success": True, "wrong_object": False, "steps": self.steps, "colour": "red", "first_direction": None}
        return self.seen, 0.0, self.steps == 2, False, info

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def test_it_plays_the_demos_plan_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed each time, an episode of the session for each, and a line that says how it ended."""
    scene, screen = Scene(), io.StringIO()
    monkeypatch.setattr(watch, "JacoEnv", scene)
    monkeypatch.setattr(watch, "Paced", lambda policy, _: policy)

    class Policy(Scene):
        def __call__(self, *_: Any) -> Any:  # type: ignore[override]
            return np.zeros(7)

    policy = Policy()
    play_on(policy, Console(file=screen, width=100), len(PLAN) + 2)  # type: ignore[arg-type] # stands in
    seeds, options = zip(*scene.began, strict=True)

    assert options == (*PLAN, *PLAN[:2])
    assert len({*seeds}) == len(PLAN) + 2
    assert (policy.resets, scene.closed) == (len(PLAN) + 2, 1)
    assert screen.getvalue().splitlines()[0].split() == ["1", *["pick", "red:", "done", "after", "2", "steps"]]


def test_a_step_waits_until_it_is_due() -> None:
    """Ten a second however fast the answers are; a late one is not made up for by those that follow."""
    clock, took_s, acted = ManualClock(), iter([0.0, 0.03, 0.35, 0.0, 0.0]), []

    def act(_: Mapping[str, Any]) -> Any:
        acted.append(round(clock(), 6))
        clock.advance(next(took_s))
        return np.zeros(7)

    paced = Paced(act, 10, clock, clock.advance)  # type: ignore[arg-type] # returns the time, which is not looked at
    for _ in range(5):
        paced({})

    assert acted == [0.0, 0.1, 0.2, 0.55, 0.65]
