"""Samples of what reuse brings about, a selector fitted to them, and its comparison with thresholds."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe import cli
from stillframe.domain import ActionChunk, CacheReport, KeyframeReason, Observation, Step, StepReport
from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.selector import form_of
from stillframe.errors import StillframeError
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.recording.frame import RecordedFrame
from stillframe.reuse.selector import FEATURES, PatchSelector, SelectorForm
from stillframe.reuse.selector_file import load_selector
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_lab.selector.comparison import DEPLOYED, RELEVANCE, SELECTOR, Point, compare, most_reuse, steps
from stillframe_lab.selector.fitting import FitRecipe, expected, fit, quantile_loss
from stillframe_lab.selector.samples import Sampler, Samples
from stillframe_lab.selector.training import Plan, split, train

CPU = torch.device("cpu")
KNOBS = AdaptiveSettings(distance=0.5, top_k=256, task_top_k=20, scene_cut=0.0, relevance_layers=[0])
FORM = SelectorForm(8, 2, ("front",), "text", ())
SHORT = FitRecipe(epochs=2)


class Silent:
    """A reporter to whom nothing is news."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.said: list[str] = []

    def stage(self, name: str, steps: int) -> None:  # noqa: ARG002 (the protocol's signature)
        """Keep the name."""
        self.stages.append(name)

    def advance(self) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Keep it."""
        self.said.append(line)


@pytest.fixture(scope="module", params=["openvla", "cogact"])
def model(request: pytest.FixtureRequest, golden_folder: Path, cogact_folder: Path) -> PolicyModel:
    """Tokens one by one, or a chunk that is drawn."""
    folder = golden_folder if request.param == "openvla" else cogact_folder
    return load_policy(folder, dtype=torch.float32, device=CPU)


def played(model: PolicyModel, frames: int = 3, seed: int = 0) -> list[RecordedFrame]:
    """A square that moves over noise."""
    still, made = np.random.default_rng(seed).integers(0, 255, (224, 224, 3), np.uint8), []
    for number in range(frames):
        picture = still.copy()
        picture[28:70, 14 * number : 14 * number + 42] = 128
        seen = Observation({model.info.cameras[0]: picture}, "push the plate", next(iter(model.info.norm_stats)))
        cache = CacheReport("off", None if number else KeyframeReason.FIRST_FRAME, 0.0, 0, 1, 0, 0, seed, number)
        answer = Step(ActionChunk(np.zeros((1, 7)), "any"), StepReport({}, 1, cache))
        made.append(RecordedFrame(0.1 * number, seen, answer))
    return made


def test_a_sample_is_a_delta_frame(model: PolicyModel) -> None:
    """Of two frames or more: what was known of every token, which were reused, and a drift; the same once more."""
    drawn, again = (list(Sampler(model, KNOBS, seed=3).samples(played(model, 5), 4)) for _ in range(2))

    assert len(drawn) > 1
    for (features, reused, drift), other in zip(drawn, again, strict=True):
        assert features.shape == (256, FEATURES)
        assert features.isfinite().all()
        assert 20 <= int(reused.sum()) <= 256
        assert 0 <= drift < 4
        assert torch.equal(reused, other[1])
        assert drift == other[2]
    assert max(drift for _, _, drift in drawn) > 0


def test_drift_is_of_the_actions_that_are_played(cogact_folder: Path) -> None:
    """As a daemon has it: no more than that of the whole chunk, and sometimes less."""
    chunked = load_policy(cogact_folder, dtype=torch.float32, device=CPU)
    whole, played_alone = (
        [drift for *_, drift in Sampler(chunked, KNOBS, answers, seed=3).samples(played(chunked, 5), 4)]
        for answers in (ChunkAnswers(), ChunkAnswers(execute=1))
    )

    assert len(whole) == len(played_alone) > 1
    assert all(some <= every for some, every in zip(played_alone, whole, strict=True))
    assert played_alone != whole


def test_the_same_picture_drifts_by_nothing(model: PolicyModel) -> None:
    """Whatever is reused of it is what would be computed."""
    first, *_ = played(model)
    drawn = list(Sampler(model, KNOBS).samples([first] * 5, 4))

    assert len(drawn) > 1
    assert [drift for _, _, drift in drawn] == pytest.approx([0.0] * len(drawn), abs=1e-3)


def test_a_selector_is_asked_what_it_would_choose(model: PolicyModel) -> None:
    """Sets of several sizes, of what it expects to add little: here what lies high in the picture."""
    selector = PatchSelector(form_of(model, KNOBS))
    for weight in selector.parameters():
        weight.data.zero_()
    selector.centre[8], selector.outward.bias.data[0] = 7.5, -6.0  # a token's row in the picture
    selector.inward.weight.data[0, 8] = selector.across.weight.data[0, 0] = selector.outward.weight.data[0, 0] = 1.0
    drawn = list(Sampler(model, KNOBS).samples(played(model, 5), 6, selector))

    assert len({int(reused.sum()) for _, reused, _ in drawn}) > 2
    for _, reused, _ in drawn:
        assert reused[:128].float().mean() >= reused[128:].float().mean()


def test_an_instruction_that_changes_ends_a_chain(model: PolicyModel) -> None:
    """Nothing is reused over it."""
    first, second, _ = played(model)
    other = replace(second, observation=replace(second.observation, instruction="go on"))

    assert list(Sampler(model, KNOBS).samples([first, other] * 3, 5)) == []


def made_up(count: int, tokens: int = 12) -> Samples:
    """Drift that is 0.03 for each reused token that moved, nothing for others, and up to a third more by chance."""
    random = torch.Generator().manual_seed(2)
    moved = torch.rand(count, tokens, generator=random) < 0.5
    features = torch.randn(count, tokens, FEATURES, generator=random)
    features[..., 0] = torch.where(moved, 0.0, -6.0)
    reused = torch.rand(count, tokens, generator=random) < torch.rand(count, 1, generator=random)
    drift = 0.03 * (moved & reused).sum(dim=1) * (1 + torch.rand(count, generator=random) / 3)
    return Samples(features, reused, drift)


def test_what_tokens_add_is_found_out() -> None:
    """Out of sums alone: much for those that moved, next to nothing for the others; a bound that nine in ten keep."""
    samples = made_up(600)
    selector = fit(FORM, samples, FitRecipe(epochs=40, batch=32), lambda: None)
    added, moved = selector(samples.features), samples.features[..., 0] == 0
    kept = samples.drift <= expected(selector, samples, torch.arange(600))

    assert 0.02 < float(added[moved].mean()) < 0.06
    assert float(added[~moved].mean()) < 0.003
    assert 0.8 < float(kept.float().mean()) < 0.97


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_the_loss_is_least_at_the_quantile(kept: float) -> None:
    """Of drifts over several orders of magnitude."""
    drift = torch.logspace(-3, 0, 1001, dtype=torch.float64)
    losses = [float(quantile_loss(torch.full_like(drift, bound), drift, kept)) for bound in drift.tolist()]

    assert np.argmin(losses) == pytest.approx(1000 * kept, abs=2)


def test_a_training_writes_a_selector_that_is_served(model: PolicyModel, tmp_path: Path) -> None:
    """And compared by the same replay as thresholds: nothing allowed, nothing reused but what never changes."""
    report, file = Silent(), tmp_path / "selector.safetensors"
    plan = Plan(ReuseSettings("adaptive", adaptive=KNOBS), ChunkAnswers(), 3, 2, SHORT)
    train(plan, model, [played(model, seed=seed) for seed in range(2)], file, report)
    reuse, held = replace(plan.reuse, adaptive=replace(KNOBS, selector=file)), [played(model)]
    ticks: list[None] = []
    found = compare(model, reuse, held, lambda: ticks.append(None))

    assert report.stages == ["samples, by chance", "selector", "samples, by itself", "selector"]
    assert len(ticks) == steps(held)
    assert load_selector(file, CPU).form.cameras == model.info.cameras
    for points in found.values():
        assert {point.way for point in points} == {SELECTOR, RELEVANCE}
        reuse = [point.reuse for point in points if point.way == SELECTOR]
        assert reuse == sorted(reuse)
        assert next(point.setting for point in points) == DEPLOYED


def test_the_best_is_what_reuses_most_within_a_bound() -> None:
    """Of its own way; None where nothing keeps it."""
    points = [
        Point(SELECTOR, "a", 0.5, 0.0, 0.01, 0.0),
        Point(SELECTOR, "b", 0.7, 0.0, 0.02, 0.0),
        Point(SELECTOR, "c", 0.9, 0.0, 0.03, 0.0),
        Point(RELEVANCE, "d", 0.8, 0.0, 0.03, 0.0),
    ]

    assert most_reuse(points, SELECTOR, 0.02) == points[1]
    assert most_reuse(points, RELEVANCE, 0.02) is None


def test_every_third_episode_of_a_recording_is_held_out(
    golden_model: PolicyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of one frame are left out; with fewer than three there is nothing to compare on."""
    frames = [[seed] * length for seed, length in enumerate((2, 3, 1, 2, 4, 2, 2))]

    class Episode:
        def __init__(self, own: list[int]):
            self.files, self.own = own, own

        def frames(self, warn: Any) -> list[int]:  # noqa: ARG002 (the reader's shape)
            return self.own

    monkeypatch.setattr("stillframe_lab.selector.training.check_pictures", lambda _: None)
    monkeypatch.setattr("stillframe_lab.selector.training.read_episodes", lambda *_: [Episode(own) for own in frames])
    learnt, held = split(Plan(ReuseSettings(), ChunkAnswers(), 6, 1), golden_model, Path("there"), Silent())

    assert ([own[0] for own in learnt], [own[0] for own in held]) == ([0, 1, 4, 5], [3, 6])
    with pytest.raises(StillframeError, match="2 episodes have two frames; expected 3 at least"):
        split(Plan(ReuseSettings(), ChunkAnswers(), 2, 1), golden_model, Path("there"), Silent())
    learnt, held = split(Plan(ReuseSettings(), ChunkAnswers(), 6, 1), golden_model, Path("there"), Silent(), Path("b"))

    assert [own[0] for own in learnt] == [own[0] for own in held] == [0, 1, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.usefixtures("needs_gl")
def test_the_command_plays_trains_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the simulator, with the shipped policy: two files, and the figures of both ways."""
    out, figures = tmp_path / "own.safetensors", tmp_path / "figures.json"
    options = ["--episodes", "3", "--passes", "1", "--out", str(out), "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["stillframe", "train", "selector", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = json.loads(capsys.readouterr().out)

    assert ended.value.code == 0
    assert load_selector(out, CPU).form.layers == 4
    assert said.keys() == {"with pauses", "without pauses"}
    assert json.loads(figures.read_text())["machine"]["cores"] > 0


def test_files_that_would_overwrite_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is played: the figures are not to lie where what a selector was trained for belongs."""
    for options in (["--out", "one.pt"], ["--out", "one.safetensors", "--json", "one.json"]):
        monkeypatch.setattr(sys, "argv", ["stillframe", "train", "selector", *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
