from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import Episode
from stillframe_lab.ablation import families_run, speed
from stillframe_lab.ablation.cell import open_cpu_model, play_cell, summary
from stillframe_lab.ablation.families import EXACT, FamiliesPlan, Family, family_arms
from stillframe_lab.ablation.families_run import run_families
from stillframe_lab.ablation.plan import ADAPTIVE, OFF, AblationCell, origin_of
from stillframe_lab.ablation.speed import record_episodes
from stillframe_lab.evaluation.jobs import Folders, checkpoint_digest, load_result, save_result
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace

KNOBS = ReuseSettings()
CONTRACT = {
    "family": "openvla-oft",
    "parameters": 1_500_000,
    "cameras": ["front", "wrist"],
    "state": ["tool_x", "opening"],
    "horizon": 8,
    "execute": 4,
}


class Reporter:
    """Remembers how many cells were missing."""

    def __init__(self) -> None:
        self.missing = -1

    def stage(self, line: str) -> None:
        """Not asked about."""

    def expect(self, cells: int) -> None:
        """How many."""
        self.missing = cells

    def played(self, cell: str) -> None:
        """Not asked about."""


@pytest.fixture
def plan(tmp_path: Path) -> FamiliesPlan:
    """Two checkpoints that are nothing but digests, each with knobs of its own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    bound = Family(tmp_path / "two", replace(KNOBS, drift_budget=0.5), execute=4, checkpoint_config={"chunk": 8})
    return FamiliesPlan((Family(tmp_path / "one", KNOBS), bound), episodes=4)


def figures_of(cell: AblationCell) -> dict[str, Any]:
    """Half of the episodes fail but with `off`; two steps each, of which the first is asked for."""
    reason = {OFF: "off", EXACT: "inexact"}.get(cell.arm)
    frame = AnsweredFrame(cell.reuse.mode, reason, 0.0 if reason else 0.5, 0, 268, {"prefill": 9.0}, gmacs=0.3)
    played = {
        task: [
            Episode(seed, task, cell.arm == OFF or seed > 0, seed == 0, steps=2, act_ms=(20.0, 0.0), wall_s=1.0)
            for seed in range(cell.episodes)
        ]
        for task in ("reach", "pick")
    }
    answers = 2 * cell.episodes
    trace = Trace([frame] * answers, drifts=[] if reason else [0.01] * answers, asked=[True, False] * answers)
    return {**summary(played, trace), "contract": CONTRACT}


@pytest.fixture
def finished(plan: FamiliesPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    """Every cell is on disk; a race is made at once."""
    folders = Folders(tmp_path / "work", tmp_path / "out")
    for family in plan.families:
        (folders.work / family.name).mkdir(parents=True)
        weights = {family.checkpoint: checkpoint_digest(family.checkpoint)}
        for cell in plan.cells(family):
            save_result(folders.work / family.name / f"{cell.name}.json", origin_of(cell, weights), figures_of(cell))
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
    monkeypatch.setattr(families_run, "_raced", lambda *_: {OFF: row, ADAPTIVE: {**row, "speedup": 1.25}})
    return folders


def test_every_family_plays_the_same_arms_and_seeds_with_its_own_settings(plan: FamiliesPlan) -> None:
    """Off first, then exact; chunks and configuration are the family's."""
    one, two = ([*plan.cells(family)] for family in plan.families)

    assert [*family_arms(KNOBS)][:2] == [OFF, EXACT]
    assert [cell.name for cell in one] == [cell.name for cell in two]
    assert len({cell.name for cell in one}) == 2 * len(family_arms(KNOBS)) == 14
    assert {(cell.seed, cell.episodes) for cell in (*one, *two)} == {(1000, 2)}
    assert {cell.condition.cameras for cell in (*one, *two)} == {()}
    assert {(cell.execute, cell.reuse.drift_budget) for cell in one} == {(None, KNOBS.drift_budget)}
    assert {(cell.execute, cell.reuse.drift_budget) for cell in two if cell.arm != OFF} == {(4, 0.5)}
    assert {cell.execute for cell in two} == {4}
    assert family_arms(KNOBS)[EXACT].mode == "exact"


def test_results_from_before_there_were_chunks_are_still_taken(plan: FamiliesPlan) -> None:
    """What is not said is not in an origin; what is said makes another."""
    cell = next(plan.cells(plan.families[0]))
    weights = {cell.condition.checkpoint: "a"}

    assert {"execute", "checkpoint_config"}.isdisjoint(origin_of(cell, weights))
    assert origin_of(replace(cell, execute=2), weights) == {**origin_of(cell, weights), "execute": 2}
    assert origin_of(replace(cell, checkpoint_config={}), weights) != origin_of(cell, weights)


def test_one_report_has_the_same_tables_for_each(plan: FamiliesPlan, finished: Folders) -> None:
    """A line an arm and condition, what the policy is, and why its exact mode reuses nothing; no word like None."""
    reporter = Reporter()
    written = run_families(plan, finished, 1, reporter)
    page = (finished.out / "README.md").read_text()
    document = json.loads((finished.out / "results.json").read_text())["families"]

    assert reporter.missing == 0
    assert {file.name for file in finished.out.iterdir()} == {*written}
    assert page.count("| adaptive without slack | 2/4 = 50.0 %") == 2 * 2
    assert page.count("| adaptive without slack | 4/8 = 50.0 %") == 2
    assert page.count("| 4 of 4 (inexact) |") == 2 * 2
    assert "| 50 % | 0.50 | 0 of 4 | 0.3000 | 0.0100 / 0.0100 / 0.0100 | 20.0 / 20.0 | 10.0 |" in page
    assert (
        "openvla-oft, 1.5 million parameters; sees front and wrist, reads 2 numbers of the robot's state; "
        "8 actions an answer, of which 4 are played. Torch "
    ) in page
    assert "| two | adaptive | 0.00 | 0.300 | 20.0 | 1.00x | 40.0 / 41.0 | 1.25x |" in page
    assert not {"None", "nan"} & {*page.replace("|", " ").split()}
    assert [*document] == ["one", "two"]
    assert document["two"]["pooled"][ADAPTIVE]["against_off"]["only_base_succeeds"] == 4


def test_one_familys_results_do_not_touch_anothers(
    plan: FamiliesPlan, finished: Folders, undrawn: Callable[..., None]
) -> None:
    """Played alone it is reported beside what the report has of others, as they were; on other seeds, alone."""
    alone = replace(plan, families=plan.families[1:])
    run_families(replace(plan, families=plan.families[:1]), finished, 1, Reporter())
    undrawn("stillframe_lab.ablation.families_report", "families_chart", "speed_chart")  # another test draws two
    one, before = _reported(finished), {file: file.read_bytes() for file in (finished.work / "one").iterdir()}
    run_families(alone, finished, 1, Reporter())
    both = _reported(finished)

    assert {file: file.read_bytes() for file in (finished.work / "one").iterdir()} == before
    assert ([*one], [*both]) == (["one"], ["one", "two"])
    assert both["one"] == one["one"]
    assert "## one" in (finished.out / "README.md").read_text()
    (finished.out / "results.json").write_text(
        (finished.out / "results.json").read_text().replace('"seed": 1000', '"seed": 7', 1)
    )
    run_families(alone, finished, 1, Reporter())
    assert [*_reported(finished)] == ["two"]


def _reported(folders: Folders) -> dict[str, Any]:
    """The families of the report."""
    families: dict[str, Any] = json.loads((folders.out / "results.json").read_text())["families"]
    return families


@pytest.mark.usefixtures("needs_gl")
def test_a_policy_of_chunks_is_played_as_it_says(
    oft_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third step is asked for; each delta frame's drift is measured; a race sees what was asked about."""
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", partial(JacoEnv, max_steps=9))
    monkeypatch.setattr(speed, "JacoEnv", partial(JacoEnv, max_steps=9))
    monkeypatch.setattr("stillframe_lab.ablation.cell.TASKS", ("reach",))
    states = []
    monkeypatch.setattr("stillframe_client.sim.table_env.proprioception", lambda arm: states.append(arm) or [0.1] * 8)
    stale = AdaptiveSettings(distance=2.0, top_k=40, age_limit=100, keyframe_every=100, scene_cut=0.0)
    family = Family(oft_folder, replace(KNOBS, adaptive=stale), execute=3, checkpoint_config={"num_actions_chunk": 8})
    cells = {cell.arm: cell for cell in FamiliesPlan((family,), episodes=2).cells(family)}
    results = {}
    for arm in (EXACT, "adaptive without slack"):
        play_cell(cells[arm], {}, tmp_path / "a.json")
        results[arm] = load_result(tmp_path / "a.json", {}) or {}
    exact, blind = results.values()
    seen = record_episodes(open_cpu_model(oft_folder), episodes=1, execute=3)

    assert (exact["steps_mean"], exact["frames"], exact["keyframe_reasons"]) == (9, 3, {"inexact": 3})
    assert (blind["frames"], blind["keyframes"], len(blind["drifts"])) == (3, 1, 2)
    assert 0 < blind["decoder_gmacs_delta"] < exact["decoder_gmacs"]
    assert (blind["contract"]["horizon"], blind["contract"]["execute"], len(blind["contract"]["state"])) == (8, 3, 8)
    assert [len(episode) for episode in seen] == [3]
    assert [*seen[0][0]["images"]] == ["image", "wrist"]
