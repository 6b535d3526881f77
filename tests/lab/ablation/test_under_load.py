"""Drift where a daemon has no pauses: each way to steer over the same frames, and the table of the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import ActionChunk, CacheReport, KeyframeReason, SlackReport, Step, StepReport
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_lab.ablation.under_load import ALWAYS, AUTO, BEFORE, BLIND, OFF, Answered, ArmTrace, LoadPlan, play_arms
from stillframe_lab.ablation.under_load_report import BEGIN, END, figures, write_under_load
from stillframe_lab.train.pi0.recipe import JACO_TINY_PI0
from stillframe_lab.train.pi0.untrained import save_untrained_pi0

SMALL = replace(
    JACO_TINY_PI0, tower_dim=72, tower_depth=1, width=16, layers=2, heads=2, feed_forward=24, head_width=16,
    expert_feed_forward=24, horizon=3, execute=2,
)  # fmt: skip
KNOBS = ReuseSettings(
    drift_budget=0.1, adaptive=AdaptiveSettings(distance=0.5, task_top_k=20, scene_cut=0.02, keyframe_every=6)
)
PLAN = LoadPlan(KNOBS, robots=2, episodes=2, rounds=2, unsettled=1)
WHERE = {"cpu": "a processor", "cores": 2, "load_average": [3.0, 2.0, 1.0]}
ROUND_S = [0.1, 0.2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PolicyModel:
    """A small pi0 of random weights, which draws chunks from noise."""
    made = tmp_path_factory.mktemp("load") / "small-pi0"
    made.mkdir()
    save_untrained_pi0(made, SMALL)
    return load_policy(made, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture
def episodes(model: PolicyModel) -> list[list[dict[str, Any]]]:
    """Two of four frames; from frame to frame a part of the picture changes."""
    random = np.random.default_rng(3)
    seen: list[list[dict[str, Any]]] = [[], []]
    for episode in seen:
        picture = random.integers(60, 190, (224, 224, 3), dtype=np.uint8)
        for _ in range(4):
            picture = picture.copy()
            picture[:56, :56] = random.integers(60, 190, (56, 56, 3), dtype=np.uint8)
            state = np.zeros(len(model.info.state.names)) if model.info.state else None
            images = dict.fromkeys(model.info.cameras, picture)
            episode.append({"images": images, "instruction": "pick up the red cube", "state": state})
    return seen


def test_the_arms_differ_in_how_drift_is_measured_alone() -> None:
    """Audits, pauses, both, as drift asks, or nothing; ages are short where nothing else bounds drift."""
    arms = PLAN.arms()

    assert [*arms] == [OFF, BLIND, BEFORE, ALWAYS, AUTO]
    assert [arm.slack for arm in arms.values()][1:] == [False, True, True, "auto"]
    assert [arm.adaptive.audit_share for arm in arms.values()][1:] == [0, 0, 0.05, 0.05]
    assert [arm.adaptive.age_limit for arm in arms.values()][1:] == [1, 1, 8, 8]
    assert [arm.mode for arm in arms.values()] == ["off"] + ["adaptive"] * 4


def test_every_arm_answers_the_same_frames(model: PolicyModel, episodes: list[list[dict[str, Any]]]) -> None:
    """All of the rounds that count; what is computed whole does not drift, whatever noise it was drawn from."""
    traces = play_arms(PLAN, model, episodes)

    assert [len(trace.answers) for trace in traces.values()] == [8] * 5
    assert all(len(trace.rounds_s) == len(trace.rounds_cpu_s) == 1 for trace in traces.values())
    assert all(min(trace.rounds_cpu_s) > 0 for trace in traces.values())
    assert {answered.step.report.cache.reuse_ratio for answered in traces[OFF].answers} == {0}
    whole = [answered for trace in traces.values() for answered in trace.answers if _whole(answered)]
    assert max(answered.drift for answered in whole) == pytest.approx(0, abs=1e-3)
    assert max(answered.drift for trace in traces.values() for answered in trace.answers) > 0


def _whole(answered: Answered) -> bool:
    return answered.step.report.cache.keyframe_reason is not None


def answered(drift: float, reuse: float) -> Answered:
    """One of a batch of two that took 30 ms, after 10 in the queue."""
    reason = None if reuse else KeyframeReason.AGE
    cache = CacheReport("adaptive", reason, reuse, 10, 20, 1000, 1)
    report = StepReport({"queue": 10.0, "decode": 30.0}, 2, cache, batch=2)
    return Answered(Step(ActionChunk(np.zeros((1, 7)), "jaco"), report), drift)


@pytest.fixture
def found() -> dict[str, Any]:
    """Figures of one arm that counts, beside the others, which are as slow as can be."""
    trace = ArmTrace(
        [answered(0.0, 0.0), answered(0.3, 0.6)],
        [SlackReport(8.0, 0.3, audit=True), SlackReport(20.0, 0.1), SlackReport(2.0, None)],
        [second / 2 for second in ROUND_S],
        [second * 3 for second in ROUND_S],
    )
    slow = ArmTrace([answered(0.0, 0.0)], [], ROUND_S, ROUND_S)
    return figures(PLAN, {OFF: slow, BLIND: slow, ALWAYS: trace}, WHERE)


def test_an_arms_figures_are_those_of_its_answers(found: dict[str, Any]) -> None:
    """Drift of all and of delta frames, work by what it was for, and rounds against those beside them."""
    arm = found["arms"][ALWAYS]

    assert (arm["answers"], arm["keyframes"], arm["over_budget"]) == (2, 0.5, 0.5)
    assert arm["reuse_ratio"] == pytest.approx(0.3)
    assert arm["drift"]["p50"] == pytest.approx(0.15)
    assert arm["delta_drift"]["p90"] == pytest.approx(0.3)
    assert arm["device_ms"] == pytest.approx({"frames": 15, "refreshes": 11, "audits": 4})
    assert (arm["refreshes"], arm["audits"], arm["given_up"]) == (1, 1, 1)
    assert arm["throughput"] == pytest.approx(2)
    assert (arm["cpu_ms"], arm["cpu"]) == pytest.approx((450, 3))
    assert found["arms"][OFF]["delta_drift"] == {"p50": None, "p90": None, "p99": None}


def test_the_table_goes_between_the_pages_marks(tmp_path: Path, found: dict[str, Any]) -> None:
    """What stands around it stays; the figures lie beside it."""
    page = tmp_path / "drift.md"
    marks = BEGIN.format(name="tiny"), END.format(name="tiny")
    page.write_text("before\n{}\nold\n{}\nafter\n".format(*marks))
    write_under_load(page, "tiny", found)
    text = page.read_text()

    assert text.startswith(f"before\n{marks[0]}\n")
    assert text.endswith(f"{marks[1]}\nafter\n")
    assert "old" not in text
    assert "| audits | 0.2700 | 0.3000 |" in text
    assert "30.0 = 15.0 + 11.0 + 4.0 | 450.0 | 3.00x | 1 / 1 / 1 |" in text
    assert json.loads((tmp_path / "drift-tiny.json").read_text())["machine"] == WHERE


def test_a_page_without_marks_is_refused(tmp_path: Path, found: dict[str, Any]) -> None:
    """Nothing of it is lost."""
    page = tmp_path / "drift.md"
    page.write_text("by hand\n")

    with pytest.raises(ConfigError, match=r"drift\.md lacks the lines"):
        write_under_load(page, "tiny", found)
    assert page.read_text() == "by hand\n"
