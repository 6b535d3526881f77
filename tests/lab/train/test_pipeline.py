from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from stillframe.models.registry import load_policy
from stillframe_lab.train import pipeline
from stillframe_lab.train.cloning import Progress
from stillframe_lab.train.demonstrations import NOISY_EXPERT
from stillframe_lab.train.frame_store import FrameStore
from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.pipeline import Score, SelectedPolicy, publish, train_policy
from stillframe_lab.train.recipe import Recipe

CPU = torch.device("cpu")


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.steps: list[int] = []

    def stage(self, line: str) -> None:
        """Note a stage."""
        self.stages.append(line.split(":")[0])

    def progress(self, trained: Progress) -> None:
        """Note a step."""
        self.steps.append(trained.step)


def score_by_step(candidates: Sequence[Path], _recipe: Recipe, _workers: int, _episodes: object) -> list[Score]:
    """A stand-in for episodes: all succeed alike, the second grasps a wrong cube, the third is the quickest."""
    wrong, steps = (0, 1, 0, 0), (40.0, 20.0, 30.0, 35.0)
    rows = zip(candidates, wrong, steps, strict=True)
    return [Score(str(folder), 10, 9, mistakes, mean) for folder, mistakes, mean in rows]


@pytest.fixture(scope="module")
def longer(recipe: Recipe) -> Recipe:
    """The fewest steps whose shares are four candidates, a picture each: what is asked here is order and folders."""
    return replace(recipe, steps=14, batch_images=1)


@pytest.fixture(scope="module")
def without_simulator(
    fill: Callable[..., FrameStore], recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Demonstrations that are there already."""
    data = tmp_path_factory.mktemp("data")
    for folder, wanted in pipeline._shards(data, "demos", recipe, recipe.demo_frames, stage=1, mixture=NOISY_EXPERT):
        fill(folder, 3, seed=1, origin=wanted.origin)
    return data


@dataclass(frozen=True)
class Finished:
    """A run, and what was heard of it."""

    folder: Path
    trained: SelectedPolicy
    heard: Heard


@pytest.fixture(scope="module")
def finished(without_simulator: Path, longer: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Trained once, from nothing, candidates scored unseen; a test that writes into its folder takes a copy."""
    run, heard = tmp_path_factory.mktemp("finished") / "run", Heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "select", score_by_step)
        return Finished(run, train_policy(run, without_simulator, longer, CPU, 1, heard), heard)


def test_a_run_ends_in_its_best_candidate(finished: Finished) -> None:
    """Candidates are exported on the way; successes first, then fewest wrong cubes, then fewest steps decide."""
    best = Path(finished.trained.best.folder)
    names = [Path(score.folder).name for score in finished.trained.scores]

    assert names == ["candidate-11", "candidate-12", "candidate-13", "candidate-14"]
    assert best.name == "candidate-13"
    assert finished.heard.stages == ["demonstrations", "selection"]
    assert finished.heard.steps == [11, 12, 13, 14]
    assert load_policy(best, dtype=torch.float32, device=CPU).info.chunk_horizon == 1


def test_what_is_finished_is_not_done_again_and_what_is_torn_is(
    without_simulator: Path, finished: Finished, longer: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call trains nothing; a candidate that was not wholly written is written again, a whole one is kept."""
    monkeypatch.setattr(pipeline, "select", score_by_step)
    run = shutil.copytree(finished.folder, tmp_path / "run")
    kept, torn = (run / f"candidate-{step}" / "model.safetensors" for step in (11, 14))
    before, weights = kept.stat().st_mtime_ns, torn.read_bytes()
    torn.unlink()
    torn.parent.rename(run / "candidate-14.part")
    heard = Heard()
    train_policy(run, without_simulator, longer, CPU, 1, heard)

    assert heard.steps == []
    assert kept.stat().st_mtime_ns == before
    assert torn.read_bytes() == weights


def test_a_second_camera_starts_from_the_first_ones_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable[..., FrameStore], longer: Recipe
) -> None:
    """The same pipeline, with two pictures a frame and a checkpoint to begin from: candidates need both cameras."""
    save_checkpoint(tmp_path / "earlier", dict(new_network(longer).state_dict()), longer)
    both = replace(longer, cameras=("front", "wrist"), learning_rate=1e-9)
    shards = pipeline._shards(tmp_path / "data", "demos", both, both.demo_frames, stage=1, mixture=NOISY_EXPERT)
    for folder, wanted in shards:
        fill(folder, 2, seed=1, origin=wanted.origin, cameras=2)
    monkeypatch.setattr(pipeline, "select", score_by_step)
    trained = train_policy(tmp_path / "run", tmp_path / "data", both, CPU, 1, Heard(), tmp_path / "earlier")
    policy = load_policy(Path(trained.best.folder), dtype=torch.float32, device=CPU)
    earlier = load_policy(tmp_path / "earlier", dtype=torch.float32, device=CPU)

    assert policy.info.cameras == ("front", "wrist")
    torch.testing.assert_close(policy.decoder.state_dict(), earlier.decoder.state_dict(), rtol=0, atol=1e-6)


def test_publishing_adds_the_curve_and_the_figures(finished: Finished, longer: Recipe, tmp_path: Path) -> None:
    """The shipped folder holds the checkpoint, a loss curve and how it was made."""
    out = tmp_path / "out"
    publish(finished.trained, longer, finished.folder, out)
    figures = json.loads((out / "training.json").read_text())

    assert load_policy(out, dtype=torch.float32, device=CPU).info.name == "out"
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert figures["recipe"]["steps"] == figures["last"]["step"] == 14
    assert [score["wrong"] for score in figures["selection"]] == [0, 1, 0, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("cameras", [("front",), ("front", "wrist")])
def test_the_whole_recipe_runs_from_nothing(tmp_path: Path, recipe: Recipe, cameras: tuple[str, ...]) -> None:
    """Demonstrations, cloning, a DAgger round and selection in closed loop, each in processes of its own."""
    whole = replace(recipe, demo_frames=40, dagger_frames=20, dagger_at=(5,), steps=20, select_episodes=1)
    heard = Heard()
    trained = train_policy(tmp_path / "run", tmp_path / "data", replace(whole, cameras=cameras), CPU, 2, heard)

    assert heard.stages == ["demonstrations", "DAgger round 1", "selection"]
    assert heard.steps == [5, 17, 18, 19, 20]
    assert [score.episodes for score in trained.scores] == [1] * 4
    assert len(list((tmp_path / "run").glob("dagger-0-*-of-2/labels.npz"))) == 2
