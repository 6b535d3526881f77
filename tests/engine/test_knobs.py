"""Every knob of a deployment, turned by itself, changes what becomes of the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from operator import ne
from typing import Any

import numpy as np
import pytest

from stillframe.engine.cuda_graphs import CaptureConfig, graph_shapes_of
from stillframe.engine.local import LocalPolicy
from stillframe.engine.settings import GraphSettings
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings

Make = Callable[..., Any]
SLOT_MIB = 2 * 4 * 2 * 32 * 8 * 4 / 2**20  # keys and values, layers, kv heads, 1 + 16 + 7 + 8 rows, width, bytes

# Where the knob acts: the mode, what else has to be set for it to have a say, the knob and its other value.
TURNS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("adaptive", "distance", {}, 0.4),
    ("adaptive", "criterion", {}, "pixels"),
    ("adaptive", "tau", {"criterion": "pixels", "tau_centred": -1.0, "max_difference": 255.0}, 0.9999999),
    ("adaptive", "tau_centred", {"criterion": "pixels", "max_difference": 255.0}, 0.99999),
    ("adaptive", "max_difference", {"criterion": "pixels", "tau_centred": 0.5}, 2.0),
    ("adaptive", "top_k", {"distance": 0.2}, 5),
    ("adaptive", "task_top_k", {}, 4),
    ("adaptive", "relevance_layers", {"task_top_k": 4}, [3]),
    ("adaptive", "schedule", {}, [0.0, 0.5]),
    ("adaptive", "age_limit", {}, 2),
    ("adaptive", "keyframe_every", {}, 2),
    ("adaptive", "scene_cut", {}, 0.9),
    ("adaptive", "drift_budget", {"distance": 0.4, "top_k": 8}, 0.0),
    ("adaptive", "gap_s", {}, 0.05),
    ("adaptive", "kv_budget_mib", {}, 2 * SLOT_MIB),
    ("adaptive", "slot_text_tokens", {}, 2),
    ("adaptive", "mode", {}, "off"),
    ("adaptive", "mode", {}, "exact"),
    ("paper", "paper_tau", {}, 0.9999999),
    ("paper", "paper_top_k", {"paper_k": None}, 3),
    ("paper", "paper_task_top_k", {}, 6),
    ("paper", "paper_tau_task", {"paper_task_top_k": 2}, 0.3),
    ("paper", "paper_k", {}, 300.0),
    ("paper", "paper_k", {}, None),
    ("paper", "paper_layers", {"paper_k": 100.0}, [2]),
    ("paper", "paper_relevance_layers", {"paper_task_top_k": 4}, [3]),
    ("static-only", "paper_tau", {}, 0.9999999),
    ("static-only", "paper_top_k", {}, 3),
]


def trace(bench: Any, picture: Make, changed: Make) -> Iterator[object]:
    """Two robots, some noise, some changes, some pauses: what is planned for each frame, and why."""
    now, noise = picture(0), np.random.default_rng(3)
    for number, robot in enumerate("aabaabaaab"):
        now = changed(now, number) if number % 4 == 3 else now
        sensed = np.clip(now + noise.normal(0, 1.5, now.shape).round(), 0, 255).astype(np.uint8)
        cache = bench.see(sensed, robot).report.cache
        plan = bench.plan
        yield (cache.keyframe_reason, plan.order.tolist(), plan.counts, plan.relevant.tolist(), cache.mode)
        if number > 5:
            bench.refresh()


@pytest.fixture(scope="module")
def unturned() -> dict[str, list[object]]:
    """Traces of what a knob is turned from, by mode and what is set beside: each is asked for, twice, only once."""
    return {}


@pytest.mark.parametrize(("mode", "knob", "beside", "value"), TURNS, ids=lambda part: str(part).replace(" ", ""))
def test_a_knob_does_something(
    robots: Make,
    picture: Make,
    changed: Make,
    unturned: dict[str, list[object]],
    mode: str,
    knob: str,
    beside: dict[str, Any],
    value: Any,
) -> None:
    """The same frames, one knob turned: another plan or another reason somewhere, and the same again if it is not."""
    turned = {"mode": mode, **beside, knob: value}
    key = f"{mode} {beside}"
    if key not in unturned:
        unturned[key], again = ([*trace(robots(mode, **beside), picture, changed)] for _ in range(2))
        assert again == unturned[key]

    # One that differs is enough: the frames behind it are not computed.
    assert any(map(ne, trace(robots(**turned), picture, changed), unturned[key]))


@pytest.mark.parametrize("slack", [True, False])
def test_slack_may_be_switched_off(toy: Make, picture: Make, *, slack: bool) -> None:
    """Then nothing is measured and nothing refreshed."""
    settings = ReuseSettings(mode="adaptive", slack=slack, adaptive=AdaptiveSettings(task_top_k=0))
    policy = LocalPolicy(toy(), settings)
    for _ in range(3):
        policy({"images": {"front": picture(0)}, "instruction": "reach"})
    report = policy.refresh()
    policy({"images": {"front": picture(0)}, "instruction": "reach"})

    assert (report is not None) is slack
    assert policy.last.report.cache.age_max == (1 if slack else 3)


@pytest.mark.parametrize(
    ("knob", "value"), [("enabled", False), ("batches", [1]), ("batches", [1, 2, 4]), ("rows", [20])], ids=str
)
def test_graphs_are_recorded_as_the_knobs_say(robots: Make, knob: str, value: Any) -> None:
    """Turned by itself, each changes which passes a GPU records."""
    usual = CaptureConfig(GraphSettings(batches=[1, 2], rows=[12]), most=8, text_tokens=8)
    turned = replace(usual, graphs=replace(usual.graphs, **{knob: value}))
    forms, other = (graph_shapes_of(robots().model, 32, recording) for recording in (usual, turned))

    assert {part.name for part in fields(GraphSettings)} == {"enabled", "batches", "rows"}
    assert forms != other


def test_no_knob_was_forgotten() -> None:
    """A new one needs a line above."""
    parts = {"adaptive", "paper", "fastv", "sparsevlm", "tome", "slack"}  # groups; the last has a test of its own
    parts |= {"audit_share"}  # see test_audits.py
    parts |= {"relevance"}  # whose attention: of policies with an expert alone, see test_flow_chunks.py
    parts |= {"selector", "selector_drift"}  # see test_selector.py
    parts |= {"vision", "vision_difference", "vision_motion"}  # of policies with towers, see test_vision.py
    knobs = {part.name for group in (ReuseSettings, AdaptiveSettings) for part in fields(group)} - parts
    knobs |= {f"paper_{part.name}" for part in fields(PaperSettings)} - {"paper_relevance"}

    assert knobs == {knob for _, knob, _, _ in TURNS}
