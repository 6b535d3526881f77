"""What the lab's tests share: scenes that remember themselves, which evaluations build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stillframe_client.sim import JacoEnv
from stillframe_client.sim.state import Vector


class Scenes:
    """Stands where the evaluation takes JacoEnv from: builds real ones and keeps them."""

    def __init__(self) -> None:
        self.built: list[JacoEnv] = []
        self.asked: list[dict[str, Any]] = []  # what each was built with
        self.closed = 0

    def __call__(self, task: str, **options: Any) -> JacoEnv:
        """Build one."""
        env = JacoEnv(task, **options)
        free = env.close

        def close() -> None:
            self.closed += 1
            free()

        env.close = close  # type: ignore[method-assign] # counted
        self.built.append(env)
        self.asked.append({"task": task, **options})
        return env

    def expert(self, _: object) -> Vector:
        """An Act: what the expert would do in the newest scene."""
        return self.built[-1].expert()


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch, needs_gl: None) -> Iterator[Scenes]:  # noqa: ARG001 -- for its skip
    """Evaluations in this test build their scenes here."""
    made = Scenes()
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", made)
    yield made
    for env in made.built:
        env.close()  # looking inside after an evaluation opens it anew


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """From `undrawn("stillframe_lab.ablation.report", "speed_chart", ...)` on an empty file stands for each chart."""

    def touch(module: str, *charts: str) -> None:
        for chart in charts:
            monkeypatch.setattr(f"{module}.{chart}", lambda file, *_: file.touch())

    return touch
