from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe.errors import CheckpointError, ConfigError
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import Episode
from stillframe_lab.ablation import run as ablation
from stillframe_lab.ablation.cell import play_cell, summary
from stillframe_lab.ablation.plan import ADAPTIVE, ARMS, OFF, AblationCell, AblationPlan, Condition, arms, origin_of
from stillframe_lab.ablation.report import CellResult, write_report
from stillframe_lab.ablation.run import run_ablation
from stillframe_lab.ablation.speed import UntrainedModel
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.jobs import Folders, checkpoint_digest, load_result, save_result
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace

KNOBS = ReuseSettings()
FORCED = AdaptiveSettings(distance=2.0, top_k=2, task_top_k=0, age_limit=10_000, keyframe_every=10_000, scene_cut=0.0)


class Reporter:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.missing = -1
        self.cells: list[str] = []
        self.stages: list[str] = []

    def stage(self, line: str) -> None:
        """A stage."""
        self.stages.append(line)

    def expect(self, cells: int) -> None:
        """How many."""
        self.missing = cells

    def played(self, cell: str) -> None:
        """One."""
        self.cells.append(cell)


@pytest.fixture
def plan(tmp_path: Path) -> AblationPlan:
    """Two checkpoints that nobody loads, four episodes a cell."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    return AblationPlan(KNOBS, tmp_path / "one", tmp_path / "two", episodes=4)


def figures_of(cell: AblationCell) -> dict[str, Any]:
    """A result: `off` always succeeds, everything else fails once and reuses six tenths of every second frame."""
    plain = cell.arm == OFF
    key = AnsweredFrame(cell.reuse.mode, "off", 0.0, 0, 268, {"prefill": 10.0, "plan": 0.1}, gmacs=0.3)
    delta = replace(key, keyframe_reason=None, reuse_ratio=0.6, reused_tokens=160, gmacs=0.1)
    played = {
        task: [
            Episode(seed, task, plain or seed > 0, wrong_object=False, steps=2, act_ms=(20.0, 30.0), wall_s=1.0)
            for seed in range(cell.episodes)
        ]
        for task in ("reach", "pick")
    }
    frames = [key, key if plain else delta] * (2 * cell.episodes)
    return summary(played, Trace(frames, drifts=[] if plain else [0.0, 0.01, 0.015], asked=[True] * len(frames)))


def race_of(speedup: float) -> dict[str, Any]:
    """A race's rows."""
    row = {
        "frames": 9,
        "reuse_ratio": 0.0,
        "decoder_gmacs": 0.3,
        "speedup": 1.0,
        "prefill_speedup": 1.0,
        "llm_prefill_ms": {"p50": 20.0, "p99": 21.0},
        "latency_ms": {"p50": 40.0, "p99": 41.0},
        "planning_ms": {"p50": 0.1, "p99": 0.2, "share": 0.01},
    }
    fast = {**row, "reuse_ratio": 0.35, "speedup": speedup, "prefill_speedup": 2 * speedup}
    return {OFF: row, "150 tokens": fast, "50 tokens": {**fast, "reuse_ratio": 0.1, "prefill_speedup": 1.1}}


@pytest.fixture
def finished(
    plan: AblationPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: Callable[..., None]
) -> Iterator[Folders]:
    """Every cell is on disk; races are made at once in `ablation`'s stead, and empty files stand for pictures."""
    folders = Folders(tmp_path / "work", tmp_path / "out").create()
    weights = {checkpoint: checkpoint_digest(checkpoint) for checkpoint in (plan.checkpoint, plan.wrist)}
    for cell in plan.cells():
        save_result(folders.work / f"{cell.name}.json", origin_of(cell, weights), figures_of(cell))
    monkeypatch.setattr(ablation, "trained_speed", lambda _: race_of(1.5))
    monkeypatch.setattr(ablation, "untrained_speed", lambda *_: race_of(1.2))
    monkeypatch.setattr(ablation, "write_strip", lambda file, _: file.touch())
    undrawn("stillframe_lab.ablation.report", "success_chart", "speed_chart")
    return folders


def ran(plan: AblationPlan, folders: Folders, untrained: Any = lambda _: None) -> Reporter:
    """The reporter of a whole run in one process."""
    reporter = Reporter()
    run_ablation(plan, folders, 1, UntrainedModel("random", untrained), reporter)
    return reporter


def test_what_is_finished_is_not_played_again(plan: AblationPlan, finished: Folders) -> None:
    """Neither cells nor races: the second run only writes its tables."""
    made: list[Path] = []
    first, second = ran(plan, finished, made.append), ran(plan, finished, made.append)

    assert (first.missing, second.missing, first.cells) == (0, 0, [])
    assert len(made) == 1  # the untrained model, for one race
    assert {file.name for file in finished.out.iterdir()} == {
        *("results.json", "README.md", "reuse.png", "speed.png", "strip.png")
    }


def test_the_report_says_what_was_reached(plan: AblationPlan, finished: Folders) -> None:
    """Adaptive fails in half of the episodes here and drifts little: the one target is missed, the others are met."""
    ran(plan, finished)
    document = json.loads((finished.out / "results.json").read_text())
    met = {target["what"]: target["met"] for target in document["targets"]}
    pooled = document["pooled"]

    assert pooled[OFF]["wins"] == pooled[OFF]["episodes"] == 5 * 4
    assert pooled[ADAPTIVE]["wins"] == 10
    assert pooled[ADAPTIVE]["against_off"]["difference"] == pytest.approx(-0.5)
    assert pooled[ADAPTIVE]["against_off"]["only_base_succeeds"] == 10
    assert pooled[ADAPTIVE]["reuse_ratio"] == pytest.approx(0.3)
    assert not met["adaptive against off, success lost"]
    assert not met["adaptive, reuse over whole episodes, clean"]
    assert not met["adaptive, reuse over whole episodes, all conditions"]
    assert met["adaptive, drift p90"]
    assert met["LLM prefill of a delta frame, at every size"]  # 2.4x at the count that reuses most like adaptive
    assert met["end to end of a delta frame, at every size"]


def test_the_page_has_every_line(plan: AblationPlan, finished: Folders) -> None:
    """Every arm under every condition, every count, every racer, with figures and not with words like None."""
    ran(plan, finished)
    page = (finished.out / "README.md").read_text()
    lines = page.splitlines()

    assert sum(line.startswith(f"| {ADAPTIVE} |") for line in lines) == 1 + 5
    assert sum(line.startswith("| 150 tokens + relevance |") for line in lines) == 1
    assert sum(line.startswith("| random | ") for line in lines) == 3
    low, high = (100 * bound for bound in wilson(2, 4))
    assert f"2/4 = 50.0 % ({low:.1f}-{high:.1f})" in page
    assert "| 0.30 | 4 of 8 | 0.2000 | 10.0 | 25.0 / 30.0 | 0.0100 / 0.0140 / 0.0149 |" in page
    assert "None" not in page
    assert "nan" not in page


def test_the_charts_show_their_numbers(plan: AblationPlan, tmp_path: Path) -> None:
    """Other results, other pictures; the same ones, the same."""
    pictures = []
    for name, speedup in (("a", 1.5), ("b", 1.5), ("c", 3.0)):
        (tmp_path / name).mkdir()
        played = [CellResult(cell, figures_of(cell)) for cell in plan.cells()]
        if name == "c":
            played = [CellResult(one.cell, {**one.result, "success_ci95": [0.0, 1.0]}) for one in played]
        write_report(tmp_path / name, plan, played, {"one": race_of(speedup), "two": race_of(1.1)})
        files = (tmp_path / name / "reuse.png", tmp_path / name / "speed.png")
        pictures.append([np.asarray(Image.open(file).convert("RGB")) for file in files])

    first, again, other = pictures
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert first[1].shape == other[1].shape
    assert not np.array_equal(first[1], other[1])


def test_another_plan_is_played_anew(plan: AblationPlan, finished: Folders) -> None:
    """A result is taken only by the plan that made it; a broken file is no result."""
    cell = next(plan.cells())
    file = finished.work / f"{cell.name}.json"
    weights = {cell.condition.checkpoint: checkpoint_digest(cell.condition.checkpoint)}
    origin = origin_of(cell, weights)

    assert load_result(file, origin) == figures_of(cell)
    assert load_result(file, origin_of(replace(cell, seed=7), weights)) is None
    file.write_text('{"origin": ')
    assert load_result(file, origin) is None
    assert load_result(file.with_name("none.json"), origin) is None


@pytest.mark.slow  # a process imports all; test_jobs has its refusal from a worker
def test_a_missing_cell_is_played_and_its_failure_is_said(plan: AblationPlan, finished: Folders) -> None:
    """In a process of its own, where this checkpoint cannot be loaded; what was finished stays."""
    cell = next(plan.cells())
    (finished.work / f"{cell.name}.json").unlink()
    before = len([*finished.work.iterdir()])

    with pytest.raises(CheckpointError, match="is not JSON"):
        ran(plan, finished)
    assert len([*finished.work.iterdir()]) == before


def test_folders_are_made_first(tmp_path: Path) -> None:
    """An hour of episodes is not lost to a wrong path."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"cannot make .*file/out: .*; choose another"):
        Folders(tmp_path, tmp_path / "file" / "out").create()


@pytest.mark.usefixtures("needs_gl")
def test_a_cell_is_played_as_it_says(golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both tasks, its seeds, its way to reuse; all is in one file, and the same again gives the same actions."""
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", partial(JacoEnv, max_steps=6))
    results = []
    knobs = replace(arms(replace(KNOBS, adaptive=FORCED))[ADAPTIVE], slack=False)
    cell = AblationCell("forced", Condition("JPEG", golden_folder, jpeg_quality=90), knobs, episodes=1, seed=3, hz=5)
    for name in ("a", "b"):
        file = tmp_path / f"{name}.json"
        play_cell(cell, {"by": name}, file)
        results.append(load_result(file, {"by": name}) or {})
    result = results[0]

    assert (result["episodes"], set(result["outcomes"])) == (2, {"reach", "pick"})
    assert result["frames"] == 2 * result["steps_mean"]
    assert (result["reuse"], result["keyframe_reasons"]) == ("adaptive", {"reset": 2})
    assert result["reused_tokens_delta"] == 3.0
    assert abs(4 * len(result["drifts"]) - (result["frames"] - 2)) <= 4  # every fourth delta frame
    assert result["decoder_gmacs_delta"] < result["decoder_gmacs"]
    same = ("outcomes", "steps_mean", "drifts", "reuse_ratio")
    assert [result[key] for key in same] == [results[1][key] for key in same]


def test_every_arm_has_a_name() -> None:
    """The tables and the charts go by them."""
    assert tuple(arms(KNOBS)) == ARMS
