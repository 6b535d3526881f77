from __future__ import annotations

import logging
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from stillframe.daemon.config import load_config
from stillframe.domain import ActionChunk, CacheReport, KeyframeReason, Observation, Step, StepReport
from stillframe.engine.drift import STEP_UP
from stillframe.engine.local import LocalPolicy
from stillframe.errors import StillframeError
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.reader import read_episodes
from stillframe.recording.recorder import Recorder
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.tools.calibration.candidates import (
    AGE_LIMITS,
    CandidateResult,
    best_within_budget,
    initial_grid,
    least_drift,
    neighbours,
    refinement_seeds,
    within_budget,
)
from stillframe.tools.calibration.output import ReusePoint, calibrated_yaml, candidates_chart
from stillframe.tools.calibration.replay import EpisodeReplay
from stillframe.tools.calibration.search import Calibration, OverBudget, calibrate, select_frames

if TYPE_CHECKING:
    from tests.conftest import Golden

    from stillframe.models.base import PolicyModel

CAMERA_TOKENS = 256  # the goldens' checkpoint, and jaco-tiny
KNOBS = {
    "rows": AdaptiveSettings(distance=0.3, top_k=256, task_top_k=20, age_limit=2),
    "rows, free": AdaptiveSettings(distance=0.3, top_k=256, task_top_k=0, age_limit=3, keyframe_every=3),
    "pixels": AdaptiveSettings(criterion="pixels", tau=0.99, top_k=200, task_top_k=60, relevance_layers=[0]),
    "late": AdaptiveSettings(distance=0.5, top_k=256, schedule=[0.0, 1.0], task_top_k=10),
}
STRICT = AdaptiveSettings(distance=1e-6)


def still_life(
    golden: Golden, moves: Sequence[int], instruction: str = "", first_s: float = 0.0
) -> list[RecordedFrame]:
    """A golden's picture with a grey square at one place a frame; equal places make equal frames."""
    frames = []
    for number, place in enumerate(moves):
        picture = golden.picture.copy()
        picture[28 : 28 + 42, 14 * place : 14 * place + 42] = 128
        observation = Observation({"front": picture}, instruction or golden.instruction)
        frames.append(RecordedFrame(first_s + number / 10, observation, answered(number, int(first_s))))
    return frames


def answered(number: int, epoch: int) -> Step:
    """What a recording says was answered; calibration asks anew."""
    reason = None if number else KeyframeReason.FIRST_FRAME
    cache = CacheReport("off", reason, 0.0, 0, 288, 0, 0, epoch, number)
    return Step(ActionChunk(np.zeros((1, 7)), "peer_tiny"), StepReport({"queue": 0.0}, 7, cache))


@pytest.fixture(scope="module")
def played(goldens: dict[str, Golden]) -> list[list[RecordedFrame]]:
    """Three episodes: in the second the instruction changes, in the third comes a gap of 5 s and a scene cut."""
    first = still_life(goldens["f0"], (0, 0, 1, 2, 2, 3))
    second = [*still_life(goldens["f1"], (4, 4, 5), first_s=100), *still_life(goldens["f1"], (5, 5), "rest", 100.3)]
    third = [
        *still_life(goldens["f0"], (1, 1), first_s=200),
        *still_life(goldens["f0"], (1, 2), first_s=205.1),
        *still_life(goldens["f3"], (1, 1), first_s=205.3),
    ]
    return [first, second, third]


@pytest.fixture(scope="module")
def replay(golden_model: PolicyModel, played: list[list[RecordedFrame]]) -> EpisodeReplay:
    """All three, prepared."""
    made = EpisodeReplay(golden_model, ReuseSettings())
    for episode in played:
        made.add(episode, nothing)
    return made


def nothing() -> None:
    """Nobody watches."""


def seen(frame: RecordedFrame) -> dict[str, Any]:
    """What a policy is asked with."""
    return {"images": frame.observation.images, "instruction": frame.observation.instruction}


@pytest.fixture(scope="module")
def dense(golden_model: PolicyModel, played: list[list[RecordedFrame]]) -> list[list[NDArray[np.float64]]]:
    """The action of a whole pass for each frame, by itself."""
    policy = LocalPolicy(golden_model)
    return [[policy(seen(frame)) for frame in episode] for episode in played]


def lived(
    model: PolicyModel,
    played: list[list[RecordedFrame]],
    dense: list[list[NDArray[np.float64]]],
    knobs: AdaptiveSettings,
    *,
    slack: bool,
    budget: float = 2.0,
) -> CandidateResult:
    """What a served policy does with the frames, at their times; a budget of 2 keeps its drift controller out of it."""
    now_s = [0.0]
    settings = ReuseSettings(mode="adaptive", drift_budget=budget, adaptive=knobs)
    policy = LocalPolicy(model, settings, clock=lambda: now_s[0])
    scale = np.subtract(*(model.info.norm_stats["peer_tiny"][end] for end in ("q99", "q01"))) / 2
    units = np.where(model.info.norm_stats["peer_tiny"]["mask"], scale, 1.0)
    outcome = CandidateResult(knobs)
    for episode, wholes in zip(played, dense, strict=True):
        policy.reset()
        for frame, whole in zip(episode, wholes, strict=True):
            now_s[0] = frame.submitted_s
            drift = float(np.abs((policy(seen(frame)) - whole) / units).max())
            assert policy.last is not None
            cache = policy.last.report.cache
            outcome.add(cache.reuse_ratio, None if cache.keyframe_reason else drift)
            if slack:
                policy.refresh()
    return outcome


@pytest.fixture(scope="module")
def live(
    golden_model: PolicyModel, played: list[list[RecordedFrame]], dense: list[list[NDArray[np.float64]]]
) -> Callable[..., CandidateResult]:
    """Serve all of them: `live(knobs, slack=True)`; see `lived`."""
    return partial(lived, golden_model, played, dense)


def assert_same(replayed: CandidateResult, served: CandidateResult) -> None:
    """Frame by frame the same reuse and the same drift."""
    assert replayed.ratios == served.ratios
    assert replayed.drifts == pytest.approx(served.drifts, abs=1e-9)


@pytest.fixture(scope="module")
def alone(replay: EpisodeReplay) -> dict[str, CandidateResult]:
    """What each set of knobs comes to by itself, with pauses."""
    return {name: replay.with_slack([knobs], nothing)[0] for name, knobs in KNOBS.items()}


@pytest.fixture(scope="module")
def together(replay: EpisodeReplay) -> list[CandidateResult]:
    """What all of them come to side by side, and one that is stricter than any."""
    return replay.with_slack([*KNOBS.values(), STRICT], nothing)


@pytest.mark.parametrize(
    "name", ["rows", "late", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rows, free", "pixels"))]
)
def test_a_replay_is_what_a_served_policy_does(
    live: Callable[..., CandidateResult],
    replay: EpisodeReplay,
    alone: dict[str, CandidateResult],
    name: str,
) -> None:
    """Frame by frame the same reuse and the same drift, with pauses and without, keyframes and all."""
    knobs = KNOBS[name]
    rested, restless = (live(knobs, slack=slack) for slack in (True, False))
    paused = alone[name]
    pauseless = replay.without_slack(knobs, nothing)

    assert_same(paused, rested)
    assert_same(pauseless, restless)
    assert [frame for frame, ratio in enumerate(paused.ratios) if not ratio] == [0, 6, 9, 11, 13, 15]
    assert max(paused.drifts) > 0
    assert (pauseless.ratios, pauseless.drifts) != (paused.ratios, paused.drifts)


@pytest.mark.parametrize("step", [STEP_UP, 1.0])
def test_a_replay_is_held_to_a_budget_as_a_session_is(
    live: Callable[..., CandidateResult],
    replay: EpisodeReplay,
    alone: dict[str, CandidateResult],
    step: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drift over budget makes later plans careful, whatever is replayed beside it; full caution makes a keyframe."""
    monkeypatch.setattr("stillframe.engine.drift.STEP_UP", step)
    knobs, free, budget = KNOBS["rows"], alone["rows"], 0.2
    rested = live(knobs, slack=True, budget=budget)
    held, _ = replay.with_slack([knobs, KNOBS["rows, free"]], nothing, bound=budget)

    assert max(free.drifts) > budget
    assert_same(held, rested)
    assert held.reuse < free.reuse
    assert (len(held.drifts) < len(free.drifts)) == (step == 1.0)


def test_candidates_do_not_disturb_each_other(
    replay: EpisodeReplay, alone: dict[str, CandidateResult], together: list[CandidateResult]
) -> None:
    """Together, in any order, each does what it does alone; every frame advances the bar once."""
    knobs, steps = [*KNOBS.values()], []
    backwards = replay.with_slack(knobs[::-1], lambda: steps.append(1))[::-1]

    assert together[:-1] == [*alone.values()] == backwards
    assert len({tuple(outcome.ratios) for outcome in together[:-1]}) == len(knobs)
    assert len(steps) == len(replay.frames) == 17


def test_candidates_that_must_exceed_the_budget_are_abandoned(
    replay: EpisodeReplay, together: list[CandidateResult]
) -> None:
    """Only who cannot come within budget any more, and without a change for the others."""
    spared = replay.with_slack([outcome.knobs for outcome in together], nothing, budget=0.02)
    lengths = [len(outcome.ratios) for outcome in spared]

    assert min(lengths) < len(replay.frames) == max(lengths)
    for full, part in zip(together, spared, strict=True):
        assert part.ratios == full.ratios[: len(part.ratios)]
        assert (part == full) or (full.drift(90) > 0.02 < part.drift(90))


def test_recordings_of_another_policy_are_refused(golden_model: PolicyModel) -> None:
    """What the checkpoint cannot see is no reason for a traceback."""
    two = Observation({name: np.zeros((8, 8, 3), np.uint8) for name in ("front", "wrist")}, "go")
    frame = RecordedFrame(0.0, two, answered(0, 0))

    with pytest.raises(StillframeError, match=r"cannot answer what was recorded, frame 000000: .*exactly one picture"):
        EpisodeReplay(golden_model, ReuseSettings()).add([frame], nothing)


def outcome(reuse: float, drifts: Sequence[float], **knobs: Any) -> CandidateResult:
    """One that reused so much on every frame."""
    return CandidateResult(AdaptiveSettings(**knobs), [reuse] * 4, list(drifts))


def test_the_most_reuse_within_budget_is_chosen() -> None:
    """More reuse over budget loses, less drift at equal reuse wins, no reuse at all is no choice."""
    greedy = outcome(0.9, [0.0] * 8 + [0.5] * 2)
    good = outcome(0.6, [0.0] * 10 + [0.5])  # one in eleven is beyond p90
    equal = outcome(0.6, [0.01] * 11)
    none = outcome(0.0, [])

    assert within_budget([none, greedy, equal, good], 0.02) == [good, equal]
    assert best_within_budget([none, greedy, equal, good], 0.02) is good
    assert best_within_budget([none, greedy], 0.02) is None
    assert best_within_budget([greedy], 0.6) is greedy
    assert least_drift([none, greedy, equal]) is equal
    assert least_drift([none]) is none


def test_both_criteria_are_looked_at_closer() -> None:
    """The best within budget and the best a little over it, of each; where nothing is near, the calmest."""
    good, near, far = (outcome(0.3 * step, [0.008 * step] * 9, distance=0.1 * step) for step in (1, 2, 3))
    pixels = [
        outcome(0.9, [1.0] * 9, criterion="pixels", tau=0.9),
        outcome(0.8, [0.5] * 9, criterion="pixels", tau=1.0),
    ]

    assert refinement_seeds([good, near, far, *pixels], 0.012) == [good.knobs, near.knobs, pixels[1].knobs]
    assert refinement_seeds([good], 0.02) == [good.knobs]


def test_reuse_counts_keyframes_and_drift_does_not() -> None:
    """Reuse is that of whole episodes; drift that of delta frames."""
    seen = CandidateResult(AdaptiveSettings())
    for ratio, drift in ((0.0, None), (0.8, 0.1), (0.4, 0.3)):
        seen.add(ratio, drift)

    assert seen.reuse == pytest.approx(0.4)
    assert seen.drift(50) == pytest.approx(0.2)
    assert CandidateResult(AdaptiveSettings()).drift(90) == 0


def test_the_grid_is_wide() -> None:
    """Both criteria, several thresholds and amounts kept for the task; limits that are searched later are off."""
    grid = initial_grid(AdaptiveSettings(keyframe_every=17, tau_centred=0.5, selector=Path("s")), CAMERA_TOKENS)

    assert {knobs.selector for knobs in grid} == {None}
    assert {knobs.criterion for knobs in grid} == {"embedding", "pixels"}
    assert len({knobs.distance for knobs in grid}) > 4
    assert len({knobs.tau for knobs in grid}) > 2
    assert {knobs.task_top_k for knobs in grid} >= {0, 20}
    assert {(knobs.top_k, knobs.keyframe_every, knobs.tau_centred) for knobs in grid} == {(CAMERA_TOKENS, 17, 0.5)}
    assert all(one not in grid[:index] for index, one in enumerate(grid))


@pytest.mark.parametrize(
    "best",
    [
        AdaptiveSettings(),
        AdaptiveSettings(criterion="pixels", tau=0.99, max_difference=48.0),
        AdaptiveSettings(distance=2.0, task_top_k=0, top_k=0),
        AdaptiveSettings(criterion="pixels", tau=1.0, max_difference=255.0, task_top_k=256),
        AdaptiveSettings(criterion="pixels", tau=-1.0, max_difference=0.0, relevance_layers=[0], schedule=[0.0, 1.0]),
    ],
    ids=["rows", "pixels", "loose", "loosest", "odd"],
)
@pytest.mark.parametrize("layers", [1, 2, 4, 32])
def test_around_the_best_every_knob_moves(best: AdaptiveSettings, layers: int) -> None:
    """All in range (settings check themselves), none twice, not the best itself, no layer that is not there."""
    near = neighbours(best, CAMERA_TOKENS, layers, 1.0)
    changed = {key for knobs in near for key, value in asdict(knobs).items() if value != getattr(best, key)}

    assert best not in near
    assert all(one not in near[:index] for index, one in enumerate(near))
    assert {"relevance_layers", "schedule"} <= changed
    assert changed <= {"distance", "tau", "max_difference", "task_top_k", "top_k", "relevance_layers", "schedule"}
    assert all(layer < layers for knobs in near for layer in knobs.relevance_layers)
    assert all(0 <= knobs.task_top_k <= CAMERA_TOKENS for knobs in near)


@dataclass
class Watch:
    """Implements calibrate's Reporter: keeps what it was told."""

    stages: list[list[Any]] = field(default_factory=list)  # name, steps announced, steps done

    def stage(self, name: str, steps: int) -> None:
        """One begins."""
        self.stages.append([name, steps, 0])

    def advance(self) -> None:
        """One step."""
        self.stages[-1][2] += 1


@pytest.fixture
def recorded(tmp_path: Path, goldens: dict[str, Golden]) -> Path:
    """Six short episodes on disk, each mostly at rest."""
    recorder = Recorder(tmp_path / "rec", max_bytes=2**30, log=logging.getLogger("test"), pending_frames=1000)
    for epoch in range(6):
        moves = (epoch, epoch, epoch, epoch, epoch + 2 * (epoch % 2))
        for frame in still_life(goldens["f0"], moves, first_s=1_700_000_000 + 10.0 * epoch):
            cache = replace(frame.step.report.cache, epoch=epoch)
            step = replace(frame.step, report=replace(frame.step.report, cache=cache))
            recorder.keep("arm", "openvla-micro", replace(frame, step=step))
    recorder.close()
    return tmp_path / "rec"


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two candidates, then two around the best, once, and two age limits: enough to see the order of the work."""
    strict, loose = (AdaptiveSettings(distance=far, top_k=256, task_top_k=20) for far in (0.01, 2.0))
    monkeypatch.setattr("stillframe.tools.calibration.search.initial_grid", lambda *_: [strict, loose])
    monkeypatch.setattr(
        "stillframe.tools.calibration.search.neighbours",
        lambda best, *_: [replace(best, task_top_k=10), replace(best, top_k=99)],
    )
    monkeypatch.setattr("stillframe.tools.calibration.search.REACHES", (1.0,))
    monkeypatch.setattr("stillframe.tools.calibration.search.AGE_LIMITS", AGE_LIMITS[:2])


@pytest.mark.usefixtures("small_grid")
def test_calibration_stays_within_budget(golden_model: PolicyModel, recorded: Path) -> None:
    """The settings are those of the best candidate within budget, on the frames of the search and on others."""
    watch, budget = Watch(), 0.05
    settings = ReuseSettings(gap_s=3.0)
    episodes = read_episodes(recorded, pytest.fail)
    found = calibrate(golden_model, settings, episodes, budget=budget, frames=15, warn=pytest.fail, report=watch)
    searched = [
        one for one in found.tried if replace(one.knobs, age_limit=1) == replace(found.with_slack.knobs, age_limit=1)
    ]

    assert replace(found.settings, mode="off", drift_budget=0.02, adaptive=settings.adaptive) == settings
    assert (found.settings.mode, found.settings.drift_budget) == ("adaptive", budget)
    assert [one.drift(90) <= budget for one in searched] == [True]
    assert not all(one.drift(90) <= budget for one in found.tried)
    assert found.with_slack.knobs == found.without_slack.knobs == found.settings.adaptive
    assert found.with_slack.reuse > 0.3
    assert found.with_slack.drift(90) <= budget
    assert (found.episodes, found.searched, found.checked) == (3, 10, 5)
    assert len(found.with_slack.ratios) == len(found.without_slack.ratios) == found.checked
    assert all(steps == done for _, steps, done in watch.stages)
    assert [name for name, _, _ in watch.stages][:3] == ["dense answers", "dense answers", "wide search"]


@pytest.mark.usefixtures("small_grid")
def test_a_budget_that_nothing_keeps_is_said(golden_model: PolicyModel, goldens: dict[str, Golden]) -> None:
    """With the least drift that there was; what was tried goes along, for the chart."""
    moves = still_life(goldens["f0"], range(0, 12, 2))
    episode: Any = FakeEpisode(moves)

    with pytest.raises(
        OverBudget, match=r"no knobs keep the drift's p90 within 0: the least was \d\.\d+, at reuse 0\.\d+"
    ) as caught:
        calibrate(
            golden_model,
            ReuseSettings(),
            [episode],
            budget=0.0,
            frames=6,
            warn=pytest.fail,
            report=Watch(),
        )
    assert len(caught.value.tried) >= 4


@dataclass(frozen=True)
class FakeEpisode:
    """Frames in memory."""

    played: list[RecordedFrame]

    @property
    def files(self) -> tuple[Path, ...]:
        """As many as frames."""
        return (Path(),) * len(self.played)

    def frames(self, _: Callable[[str], None]) -> list[RecordedFrame]:
        """All of them."""
        return self.played


def test_episodes_are_picked_from_all_over(recorded: Path) -> None:
    """As many frames as asked for, the same ones each time, no episode twice, none of a single frame."""
    episodes = read_episodes(recorded, pytest.fail)
    lonely = replace(episodes[0], files=episodes[0].files[:1])
    picked = select_frames([lonely, *episodes], 13)

    assert picked == select_frames([lonely, *episodes], 13)
    assert [frames for _, frames in picked] == [5, 5, 3]
    assert len({episode.folder for episode, _ in picked}) == 3
    assert [episode for episode, _ in picked] != episodes[:3]
    assert lonely not in [episode for episode, _ in select_frames([lonely, *episodes], 10_000)]
    with pytest.raises(StillframeError, match="no recorded episode has two frames"):
        select_frames([lonely], 15)


CHOSEN = AdaptiveSettings(
    criterion="pixels", distance=0.31, max_difference=48.25, relevance_layers=[1, 2], schedule=[0.0, 0.5], age_limit=3
)
YAMLS = {
    "no section": "checkpoint: there # mine\nport: 1",
    "section": "checkpoint: there # mine\nreuse:\n  mode: exact\n  gap_s: 1.5\n\n  paper:\n    tau: 0.5\nport: 1\n",
    "on one line": "checkpoint: there # mine\nreuse: {mode: exact, gap_s: 1.5}\nport: 1\n",
    "last section": "port: 1\ncheckpoint: there # mine\n# on it\nreuse:\n  gap_s: 1.5 # s\n",
    "json": '{"checkpoint": "there", "port": 1, "reuse": {"gap_s": 1.5}}',
}


def calibration(knobs: AdaptiveSettings = CHOSEN) -> Calibration:
    """One that was found."""
    done = CandidateResult(knobs, [0.5, 0.7], [0.0, 0.01])
    return Calibration(ReuseSettings("adaptive", 0.03, adaptive=knobs), [done], done, done, 3, 40, 20)


@pytest.mark.parametrize("text", YAMLS.values(), ids=YAMLS.keys())
def test_the_new_yaml_is_the_old_one_with_new_knobs(tmp_path: Path, text: str) -> None:
    """A daemon takes it; all that is not calibrated is as it was, and so are comments; twice is the same as once."""
    once = calibrated_yaml(text, calibration())
    (tmp_path / "old.yaml").write_text(text)
    (tmp_path / "new.yaml").write_text(once)
    old, new = (load_config(tmp_path / f"{name}.yaml", {}) for name in ("old", "new"))
    expected = replace(old.reuse, mode="adaptive", drift_budget=0.03, adaptive=CHOSEN)

    assert new == old.model_copy(update={"reuse": expected})
    twice = calibrated_yaml(once, calibration())
    assert calibrated_yaml(twice, calibration()) == twice
    assert yaml.safe_load(twice) == yaml.safe_load(once)
    assert once.count("reuse:") == 1
    assert ("# mine" in once) == ("# mine" in text)
    assert "# Calibrated over 40 frames, chosen with 20 others, of 3 recorded episodes, for drift p90 <= 0.03." in once
    assert "reuse 0.60, drift p50 0.0050, p90 0.0090, p99 0.0099" in once


def test_a_commented_section_keeps_its_comments() -> None:
    """In our own deployment only values change, where they stand, and the comment above the section is replaced."""
    text = (Path(__file__).parents[3] / "configs" / "jaco-tiny.yaml").read_text()
    other = calibrated_yaml(text, calibration(replace(CHOSEN, distance=1.25, schedule=[])))
    new = calibrated_yaml(other, calibration())
    plain = [re.sub(r"(?<!^)(?<!\S)#.*", "", line) for line in new.splitlines() if not line.startswith("#")]

    assert re.findall(r"(?<=\S) +#.*", new) == re.findall(r"(?<=\S) +#.*", new)
    assert [*map(str.strip, re.findall(r"\S +(#.*)", text))] == [*map(str.strip, re.findall(r"\S +(#.*)", new))]
    assert new.count("# Calibrated") == 1
    assert "    schedule: [0.0, 0.5]" in "\n".join(plain)
    assert yaml.safe_load(new)["reuse"]["adaptive"] == asdict(CHOSEN)


def test_the_chart_shows_what_was_chosen(tmp_path: Path) -> None:
    """A PNG with the accent colour; another choice is another picture, the same one the same."""
    points = [ReusePoint(0.1 * step, 0.01 * step, "pixels" if step % 2 else "embedding") for step in range(9)]
    files = [tmp_path / f"{name}.png" for name in "abcd"]
    for file, chosen in zip(files, ({"best": points[1]}, {"best": points[1]}, {"best": points[5]}, {}), strict=True):
        candidates_chart(file, points, chosen, 0.02, "some")
    first, again, other, empty = (np.asarray(Image.open(file).convert("RGB"), int) for file in files)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    accent = [int((np.abs(picture - (0xD6, 0x45, 0x45)).max(-1) < 8).sum()) for picture in (first, empty)]
    assert accent[0] > accent[1] > 100


@dataclass(frozen=True)
class Typed:
    """What came of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def type_in(typed: Callable[..., tuple[int, str, str]]) -> Callable[..., Typed]:
    """`type_in("calibrate", ...)`: the program's own main(), in this process."""
    return lambda *words: Typed(*typed(*words))


@pytest.fixture
def deployment(tmp_path: Path, golden_folder: Path) -> Path:
    """A YAML that serves the goldens' checkpoint."""
    file = tmp_path / "micro.yaml"
    file.write_text(f"checkpoint: {golden_folder}  # micro\ndevice: cpu\n")
    return file


@pytest.mark.usefixtures("small_grid")
def test_the_command_writes_a_deployment_and_a_chart(
    type_in: Callable[..., Typed], deployment: Path, recorded: Path, tmp_path: Path
) -> None:
    """From recorded episodes, over a damaged frame, which is named and skipped; the summary is printed."""
    for more in sorted(recorded.iterdir())[3:]:
        shutil.rmtree(more)
    damaged = min(recorded.glob("*/000001.0.png"))
    damaged.write_bytes(b"no picture")
    out, chart = tmp_path / "new" / "micro.yaml", tmp_path / "new" / "chart.png"
    words = ("--episodes", recorded, "--drift-budget", 0.05, "--out", out, "--chart", chart)
    typed = type_in("calibrate", deployment, *words)
    new = load_config(out, {})

    assert typed.status == 0, typed.err
    assert typed.out.startswith("Calibrated over 10 frames, chosen with 4 others, of 3 recorded episodes")
    assert f"skipped {damaged}: not a PNG" in typed.err
    assert (new.reuse.mode, new.reuse.drift_budget) == ("adaptive", 0.05)
    assert "# micro" in out.read_text()
    with Image.open(chart) as drawn:
        assert drawn.format == "PNG"


def test_the_command_may_write_over_its_deployment(
    type_in: Callable[..., Typed], deployment: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own file takes the knobs; where none are good enough it is left alone, and the chart shows why."""
    words = ("--episodes", recorded, "--out", deployment, "--frames", 6)
    chart = deployment.with_suffix(".png")
    asked: list[Any] = []

    def search(*given: Any, budget: float, frames: int, **_: Any) -> Calibration:
        asked.append((budget, frames, len(given[2])))
        if budget < 1:
            raise OverBudget([outcome(0.9, [0.5, 0.6]), outcome(0.6, [0.1, 0.2])], budget)
        return calibration()

    monkeypatch.setattr("stillframe.tools.calibration.search.calibrate", search)
    refused, untouched = type_in("calibrate", deployment, *words, "--chart", chart), deployment.read_text()
    done = type_in("calibrate", deployment, *words, "--drift-budget", 2)

    assert refused.status == 1
    assert "no knobs keep the drift's p90 within 0.02" in refused.err
    assert chart.stat().st_size > 0
    assert "reuse:" not in untouched
    assert done.status == 0
    assert load_config(deployment, {}).reuse.mode == "adaptive"
    assert asked == [(0.02, 6, 6), (2, 6, 6)]


def test_the_command_says_in_one_line_what_it_lacks(
    type_in: Callable[..., Typed], deployment: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes that are not there, a folder to write to, a chart without its package: before anything is loaded."""
    monkeypatch.setattr("stillframe.daemon.serve.open_model", lambda _: pytest.fail("loaded"))
    none = type_in("calibrate", deployment, "--episodes", tmp_path / "none", "--out", tmp_path / "a.yaml")
    folder = type_in("calibrate", deployment, "--episodes", recorded, "--out", tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    chart = type_in("calibrate", deployment, "--episodes", recorded, "--out", tmp_path / "a.yaml", "--chart", "a.png")

    assert [typed.status for typed in (none, folder, chart)] == [1, 1, 1]
    assert f"cannot read {tmp_path / 'none'}" in none.err
    assert f"cannot write {tmp_path}: it is a folder" in folder.err
    assert "pip install 'stillframe[charts]'" in chart.err
