"""Delays in control steps: what is played while a chunk is awaited, jerk by hand, and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from stillframe.domain import RtcRequest
from stillframe.engine.settings import DecodingSettings
from stillframe.errors import ConfigError
from stillframe_lab.rtc.cells import RtcPlan, summary
from stillframe_lab.rtc.delayed_actor import DelayedActor, Way
from stillframe_lab.rtc.report import page
from stillframe_lab.rtc.smoothness import at_seams, jerks

HORIZON = 8
PLAN = RtcPlan(Path("policy"), DecodingSettings(), "pick", 2, 1000, 10, (0, 200))


class Policy:
    """Its n-th chunk's k-th action is [n, k, 0, ...]; it notes what it was asked to hold."""

    info = SimpleNamespace(chunk_horizon=HORIZON)

    def __init__(self) -> None:
        self.held: list[RtcRequest | None] = []

    def __call__(self, observed: dict[str, Any]) -> None:
        """Answer the next chunk."""
        assert observed["images"] == {"image": "front's"}
        chunk = np.zeros((HORIZON, 7))
        chunk[:, 0], chunk[:, 1] = len(self.held), np.arange(HORIZON)
        self.held.append(observed["rtc"])
        self.last = SimpleNamespace(chunk=SimpleNamespace(actions=chunk))

    def reset(self) -> None:
        """Nothing is kept."""


def played(way: Way, delay: int, steps: int) -> tuple[DelayedActor, Policy, list[list[float]]]:
    """An episode's first actions, by number of chunk and action."""
    policy = Policy()
    actor = DelayedActor(policy, way, delay, 4, {"image": "front"})  # type: ignore[arg-type]
    actor.reset()
    said = [actor({"images": {"front": "front's"}})[:2].tolist() for _ in range(steps)]
    return actor, policy, said


@pytest.mark.parametrize("way", ["switch", "rtc"])
def test_the_old_chunk_is_played_until_the_new_one_comes(way: Way) -> None:
    """Two steps after it was asked for the new chunk goes on at its third action; rtc says how many steps went by."""
    actor, policy, said = played(way, 2, 10)

    assert said == [*([0, k] for k in range(6)), *([1, k] for k in (2, 3)), *([1, k] for k in (4, 5))]
    assert actor.episodes[0].seams == [6]
    asked = RtcRequest(2, 4)
    assert policy.held == ([None, asked, asked] if way == "rtc" else [None] * 3)


def test_without_delay_the_new_chunk_is_taken_up_at_once() -> None:
    """At its first action, in the very step that asked."""
    actor, _, said = played("switch", 0, 6)

    assert said == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]
    assert (actor.episodes[0].seams, actor.episodes[0].jumps) == ([4], [pytest.approx(np.hypot(1, 4))])


def test_linear_goes_over_bit_by_bit() -> None:
    """From the old chunk's word for a step to the new one's."""
    _, _, said = played("linear", 2, 8)

    assert said[5] == [0, 5]
    assert 0 < said[6][0] < said[7][0] < 1


def test_a_delay_that_chunks_do_not_allow_is_refused() -> None:
    """D <= s <= H - d, in whole control steps."""
    with pytest.raises(ValueError, match="delay <= played <= 3"):
        DelayedActor(Policy(), "rtc", 5, 4, {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--delay-ms 150: a control step takes 100 ms"):
        replace(PLAN, delays_ms=(150,))


def test_jerk_by_hand() -> None:
    """The third difference of positions is the second of steps; at a seam those with steps of both chunks."""
    actions = [np.array([dx, 0, 0, 0, 0, 0, 0.0]) for dx in (1, 1, 1, 4, 4, 4)]

    assert_allclose(jerks(actions, 10), [0, 3000, 3000, 0])
    assert_allclose(at_seams(jerks(actions, 10), [3]), [3000, 3000])
    assert_allclose(at_seams(jerks(actions, 10), [1, 4]), [0, 3000, 0])
    assert len(jerks(actions[:2], 10)) == len(at_seams(jerks(actions[:2], 10), [1])) == 0


def test_the_page_has_a_line_for_every_cell() -> None:
    """Of figures that were played; cells differ in their file's name, and in what their result depends on."""
    actor, _, _ = played("switch", 2, 20)
    episode = SimpleNamespace(success=True, steps=20)
    figures = {"horizon": HORIZON, "execute": 4, **summary([episode, episode], actor, 10)}  # type: ignore[list-item]
    cells = PLAN.cells()
    assert len({cell.name for cell in cells}) == len(cells) == 6

    made = {"checkpoint": "policy", "task": "pick", "episodes": 2, "seed": 0, "hz": 10, "cpu": "a CPU", "cores": 2}
    made |= {"rtc_strength": 5.0, "rtc_jacobian": "network"}
    rows = {cell.name: {"way": cell.way, "delay_ms": cell.delay_ms, **figures} for cell in cells}
    text = page({"made_with": made, "cells": rows})
    assert "| 200 ms | rtc | 2/2 = 100.0 % (34.2-100.0) |" in text
    assert text.count("| 200 ms |") == 3
