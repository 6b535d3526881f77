from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stillframe_client.sim.rollout import play

ACTION = np.zeros(7)


class Scene:
    """Three steps long; it writes down what happens, and time passes only where it is told to."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.now_s = 0.0

    def reset(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin."""
        self.told.append("scene")
        self.steps = 0
        return self.observed, {}

    def step(self, _: object) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One more."""
        self.told.append("step")
        self.now_s += 0.5
        self.steps += 1
        info = {"success": True, "wrong_object": False, "steps": self.steps}
        info |= {"colour": "red", "first_direction": "red" if self.steps > 2 else None}
        return self.observed, 0.0, self.steps == 3, False, info

    @property
    def observed(self) -> dict[str, Any]:
        """Nothing to see."""
        return {"images": {}, "instruction": "wait"}


class Robot:
    """An Actor on the scene's clock: it answers in 10 ms and rests for a second."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __call__(self, _: object) -> Any:
        """Answer."""
        self._scene.told.append("act")
        self._scene.now_s += 0.01
        return ACTION

    def reset(self) -> str:
        """Begin."""
        self._scene.told.append("reset")
        return "whatever"

    def rest(self) -> None:
        """Take its time."""
        self._scene.told.append("rest")
        self._scene.now_s += 1.0


def test_an_actor_is_reset_and_rests_after_each_action() -> None:
    """In this order, once an episode and once a step, and only answering is timed."""
    scene = Scene()
    episode = play(scene, Robot(scene), seed=0, clock=lambda: scene.now_s)  # type: ignore[arg-type] # stands in

    assert scene.told == ["scene", "reset"] + ["act", "rest", "step"] * 3
    assert episode.act_ms == pytest.approx((10.0, 10.0, 10.0))
    assert episode.wall_s == pytest.approx(3 * 1.51)


def test_a_plain_function_is_only_asked() -> None:
    """Experts and notebooks need nothing but a call."""
    scene = Scene()
    episode = play(scene, lambda _: ACTION, seed=0, clock=lambda: scene.now_s)  # type: ignore[arg-type] # stands in

    assert scene.told == ["scene"] + ["step"] * 3
    assert (episode.steps, episode.success) == (3, True)
    assert episode.first_right
