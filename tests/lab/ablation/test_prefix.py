"""What is kept of a prefix: four ways that differ in their work alone, their race, and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import Episode
from stillframe_lab.ablation import prefix_run
from stillframe_lab.ablation.cell import summary
from stillframe_lab.ablation.families import Family
from stillframe_lab.ablation.prefix import ACROSS, BOTH, OFF, WITHIN, PrefixArm, PrefixPlan, forced_arms
from stillframe_lab.ablation.prefix_cell import play_prefix_cell, prefix_actor, prefix_rows
from stillframe_lab.ablation.prefix_report import commit
from stillframe_lab.ablation.prefix_run import run_prefix
from stillframe_lab.ablation.prefix_speed import as_jpegs, prefix_race
from stillframe_lab.ablation.speed import UntrainedModel, expert_episodes
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.evaluation.jobs import Folders, load_result, save_result
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace
from stillframe_lab.train.pi0.recipe import JACO_TINY_PI0
from stillframe_lab.train.pi0.untrained import save_untrained_pi0

SMALL = replace(
    JACO_TINY_PI0, tower_dim=72, tower_depth=1, width=16, layers=2, heads=2, feed_forward=24, head_width=16,
    expert_feed_forward=24, horizon=3, execute=2,
)  # fmt: skip
KNOBS = ReuseSettings(
    mode="adaptive", drift_budget=2, adaptive=AdaptiveSettings(distance=0.5, task_top_k=20, scene_cut=0.02)
)
STEPS, LAYERS = 10, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pi0 of random weights."""
    made = tmp_path_factory.mktemp("prefix") / "small-pi0"
    made.mkdir()
    save_untrained_pi0(made, SMALL)
    return made


@pytest.fixture
def plan(folder: Path) -> PrefixPlan:
    """Two episodes a cell."""
    return PrefixPlan(Family(folder, KNOBS, execute=2), 2, 1000)


@pytest.fixture
def model(folder: Path) -> PolicyModel:
    """The same, loaded."""
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


def pictures(model: PolicyModel, frames: int) -> list[dict[str, Any]]:
    """A square that moves over noise."""
    still = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    made = []
    for number in range(frames):
        picture = still.copy()
        picture[100:140, 14 * number : 14 * number + 42] = 128
        images = dict.fromkeys(model.info.cameras, picture)
        made.append({"images": images, "instruction": "pick up the red cube", "state": np.full(7, 0.1 * number)})
    return made


def arm(plan: PrefixPlan, name: str) -> PrefixArm:
    """One of the four."""
    return next(one for one in plan.arms() if one.name == name)


def answers(model: PolicyModel, wanted: PrefixArm, frames: int = 3) -> tuple[list[np.ndarray], LocalActor]:
    """Every chunk of an episode, with the rests between; and who gave them."""
    actor = prefix_actor(LocalActor, model, wanted)
    chunks = []
    for observed in pictures(model, frames):
        actor(observed)
        chunks.append(actor.chunk)
        actor.rest()
    return chunks, actor


@pytest.mark.parametrize(("anew", "kept"), [(OFF, WITHIN), (ACROSS, BOTH)])
def test_a_pass_before_each_step_changes_nothing_but_the_work(
    model: PolicyModel, plan: PrefixPlan, anew: str, kept: str
) -> None:
    """The same chunks to the bit, the same drift, ten passes for one; keyframes and delta frames alike."""
    (every, one), (once, other) = answers(model, arm(plan, anew)), answers(model, arm(plan, kept))

    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(every, once, strict=True))
    assert [frame.passes for frame in one.trace.frames] == [STEPS] * 3
    assert [frame.passes for frame in other.trace.frames] == [1] * 3
    assert [frame.reuse_ratio for frame in one.trace.frames] == [frame.reuse_ratio for frame in other.trace.frames]
    assert [frame.keyframe_reason is None for frame in other.trace.frames] == [False, kept == BOTH, kept == BOTH]
    assert one.trace.drifts == other.trace.drifts
    assert len(one.trace.drifts) == (2 if kept == BOTH else 0)
    assert prefix_rows(one.trace.frames) == pytest.approx(STEPS * prefix_rows(other.trace.frames))


@pytest.mark.parametrize("name", [OFF, ACROSS])
def test_every_pass_writes_the_same_keys(
    model: PolicyModel, plan: PrefixPlan, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To the bit, over rows that are reused too; as many passes are run as are reported, none of them for a hook."""
    passes: list[tuple[torch.Tensor, bool]] = []
    forward = DecoderRunner.forward

    def noted(own: DecoderRunner, sequences: Sequence[SequenceSlice]) -> list[torch.Tensor]:
        out = forward(own, sequences)
        passes.append((sequences[0].kv._storage.clone(), sequences[0].hook is not None))
        return out

    monkeypatch.setattr(DecoderRunner, "forward", noted)
    actor = prefix_actor(LocalActor, model, arm(plan, name))
    for observed in pictures(model, 2):
        passes.clear()
        actor(observed)
        assert len(passes) == STEPS
        assert all(torch.equal(passes[0][0], after) for after, _ in passes)
        assert not any(hooked for _, hooked in passes[1:])
        actor.rest()
    assert actor.trace.frames[-1].reuse_ratio == pytest.approx(0.0 if name == OFF else 0.5, abs=0.499)


def test_the_experts_attention_is_probed_over_repeated_passes_as_over_one(model: PolicyModel, plan: PrefixPlan) -> None:
    """Plans that follow it reuse the same rows."""
    asked = plan.by_relevance()["expert"]
    every, once = answers(model, replace(asked, every_step=True)), answers(model, asked)

    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(every[0], once[0], strict=True))
    assert once[1].trace.frames[-1].reuse_ratio > 0


def test_the_cells_differ_in_what_is_kept_alone(plan: PrefixPlan) -> None:
    """Four arms on the same seeds, then relevance of other rows: the deployment's own is the arm `both`."""
    cells, asked = plan.cells(), plan.by_relevance()
    expert = replace(KNOBS.adaptive, relevance="expert", relevance_layers=[1])
    other = replace(plan, family=replace(plan.family, reuse=replace(KNOBS, adaptive=expert)))

    assert [cell.name for cell in cells] == [WITHIN, BOTH, "both-expert", "both-none", OFF, ACROSS]
    assert [one.every_step for one in plan.arms()] == [True, False, True, False]
    assert [one.reuse.mode for one in plan.arms()] == ["off", "off", "adaptive", "adaptive"]
    assert {name: one.name for name, one in asked.items()} == {
        "text": BOTH, "expert": "both-expert", "none": "both-none",
    }  # fmt: skip
    assert asked["expert"].reuse.adaptive == replace(KNOBS.adaptive, relevance="expert")
    assert asked["none"].reuse.adaptive == replace(KNOBS.adaptive, task_top_k=0)
    assert {name: one.name for name, one in other.by_relevance().items()} == {
        "text": "both-text", "expert": BOTH, "none": "both-none",
    }  # fmt: skip
    assert other.by_relevance()["text"].reuse.adaptive.relevance_layers == []
    assert len({json.dumps(job.origin) for job in plan.jobs(Path())}) == len(cells)
    assert {one.reuse.adaptive.top_k for one in forced_arms(9) if one.reuse.mode == "adaptive"} == {9}


def test_rows_are_counted_by_hand() -> None:
    """Half of 100 in each of ten passes, all of 100 in one: 300 an answer."""
    repeated = AnsweredFrame("adaptive", None, 0.5, 50, 100, {}, passes=10)

    assert prefix_rows([repeated, AnsweredFrame("off", "off", 0.0, 0, 100, {})]) == 300


def test_a_race_counts_all_but_an_episodes_first_picture(model: PolicyModel, plan: PrefixPlan) -> None:
    """Each arm answers every JPEG, in turn; keyframes that come later count; times are against `off` and `within`."""
    ticks = count()
    episodes = [pictures(model, 3), pictures(model, 2)]
    raced = prefix_race(model, episodes, plan.arms(), clock=lambda: float(next(ticks)))

    assert [*raced] == [OFF, WITHIN, ACROSS, BOTH]
    assert {row["frames"] for row in raced.values()} == {3}
    assert [row["keyframes"] for row in raced.values()] == [3, 3, 0, 0]
    assert raced[ACROSS]["reuse_ratio"] == raced[BOTH]["reuse_ratio"] > 0
    assert raced[OFF]["prefix_rows"] == 10 * raced[WITHIN]["prefix_rows"]
    assert raced[OFF]["against"][OFF] == raced[WITHIN]["against"][WITHIN] == 1
    assert isinstance(next(iter(as_jpegs(episodes[0][0])["images"].values())), bytes)


def test_another_family_is_refused_with_the_reason(oft_folder: Path, plan: PrefixPlan, tmp_path: Path) -> None:
    """Before anything is played: it draws no chunk over a prefix."""
    other, nothing = replace(plan, family=Family(oft_folder, KNOBS)), UntrainedModel("wide", lambda _: None)
    with pytest.raises(ConfigError, match="of family openvla-oft, which draws no chunk over a prefix; expected a pi0"):
        run_prefix(other, Folders(tmp_path / "work", tmp_path / "out"), 1, nothing, _Quiet())


class _Quiet:
    """Shows nothing; remembers how many cells were missing."""

    missing = -1

    def stage(self, line: str) -> None:
        """Not asked about."""

    def expect(self, cells: int) -> None:
        """How many."""
        self.missing = cells

    def played(self, cell: str) -> None:
        """Not asked about."""


def figures(name: str) -> dict[str, Any]:
    """Both episodes succeed but where no relevance is asked; half is reused across frames."""
    across = name.startswith((ACROSS, BOTH))
    ratio, reason = (0.5, None) if across else (0.0, "off")
    passes = STEPS if name in (OFF, ACROSS) else 1
    frame = AnsweredFrame("adaptive", reason, ratio, 0, 270, {"prefill": 3.0}, gmacs=0.1, passes=passes)
    played = [
        Episode(seed, "pick", name != "both-none" or seed > 0, seed == 0, steps=2, act_ms=(20.0, 0.0), wall_s=1.0)
        for seed in range(2)
    ]
    trace = Trace([frame] * 2, [4.0] * 2 if across else [], [0.01] * 2 if across else [], [True, False] * 2)
    contract = {"family": "pi0", "parameters": 1_500_000, "horizon": 10, "execute": 5, "steps": STEPS}
    own = {"prefix_rows": prefix_rows(trace.frames), "contract": contract}
    return {**summary({"pick": played}, trace), **own}


def test_the_page_has_every_arm_and_what_it_means(
    plan: PrefixPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished cells are not played again; rows, drift, times side by side; relevance against nothing kept."""
    folders = Folders(tmp_path / "work", tmp_path / "out").create()
    for job in plan.jobs(folders.work):
        save_result(job.file, job.origin, figures(job.cell.name))
    row = {
        "frames": 9,
        "keyframes": 0,
        "reuse_ratio": 0.5,
        "prefix_rows": 135.0,
        "latency_ms": {"p50": 12.0, "p99": 14.0},
        "stages_ms": {"vision": 2.0, "prefix": 3.0, "drawing": 6.0},
        "against": {OFF: 2.5, WITHIN: 1.25},
    }
    monkeypatch.setattr("stillframe_lab.ablation.prefix_report.commit", lambda: "1234abc")
    monkeypatch.setattr(prefix_run, "record_episodes", lambda *_: [])
    monkeypatch.setattr(prefix_run, "expert_episodes", lambda *_: [])
    monkeypatch.setattr(prefix_run, "prefix_race", lambda *_: dict.fromkeys((OFF, WITHIN, ACROSS, BOTH), row))
    reporter = _Quiet()
    made = UntrainedModel("random, 1024 wide", lambda to: save_untrained_pi0(to, SMALL))
    written = run_prefix(plan, folders, 1, made, reporter)
    page = (folders.out / "README.md").read_text()
    document = json.loads((folders.out / "results.json").read_text())

    assert reporter.missing == 0
    assert {file.name for file in folders.out.iterdir()} == {*written}
    assert "with small-pi0, pi0, 1.5 million parameters: chunks of\n10 actions in 10 steps from noise, of which" in page
    assert "commit\n1234abc. Every" in page
    assert "| **off** | 2/2 = 100.0 % (34.2-100.0) | 0.00 | 2700 |" in page
    assert "(34.2-100.0) | 0.50 | 135 | 0.0100 / 0.0100 / 0.0100 | 12.0 / 14.0 | 2.50x | 1.25x |" in page
    assert "| random, 1024 wide | across | 0.50 | 135 | 2.0 / 3.0 / 6.0 | 12.0 / 14.0 | 2.50x | 1.25x |" in page
    assert "| none | 1/2 = 50.0 % (9.5-90.5) | -50.0 (" in page
    assert "With **both** it took 4.0 ms (p50," in page
    assert document["relevance"]["text"]["cell"] == BOTH
    assert "drifts" not in document["cells"][BOTH]
    assert not {"None", "nan"} & {*page.replace("|", " ").replace(",", " ").split()}


def test_the_commit_is_the_working_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortened; a word where there is no git."""
    assert re.fullmatch("[0-9a-f]{7,}|unknown", commit())
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"


@pytest.mark.gl
@pytest.mark.usefixtures("needs_gl")
def test_a_cell_is_played_and_kept(plan: PrefixPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure of the table, out of the beginning of an episode of pick."""
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", partial(JacoEnv, max_steps=16))
    short = replace(plan, episodes=1)
    job = next(one for one in short.jobs(tmp_path) if one.cell.name == BOTH)
    play_prefix_cell(job.cell, job.origin, job.file)
    result = load_result(job.file, job.origin)

    assert result is not None
    assert (result["episodes"], result["contract"]["steps"], result["passes"]) == (1, STEPS, 1)
    assert 0 < result["reuse_ratio"] < 1
    assert 0 < result["prefix_rows"] < 270
    assert len(result["drifts"]) > 0


@pytest.mark.gl
def test_the_expert_shows_what_a_policy_would_be_asked_about(needs_gl: None) -> None:  # noqa: ARG001 (its skip)
    """Under the policy's names of cameras, every tenth step, two episodes from the same seeds each time."""
    episodes = expert_episodes(("base_0_rgb",), 2, 10)

    assert [[*seen["images"]] for episode in episodes for seen in episode] == [["base_0_rgb"]] * sum(map(len, episodes))
    assert len(episodes) == 2
    assert all(2 <= len(episode) < 12 for episode in episodes)
    first, second, *_ = episodes[0]
    assert not np.array_equal(first["images"]["base_0_rgb"], second["images"]["base_0_rgb"])
