"""`stillframe calibrate`: search the settings of mode adaptive that reuse most within a drift budget.

Knows the stages of the search; what a candidate reuses is measured in replay.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.errors import StillframeError
from stillframe.models.base import PolicyModel
from stillframe.recording.reader import RecordedEpisode
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
from stillframe.tools.calibration.replay import EpisodeReplay

REACHES = (1.0, 0.4)  # two rounds around the best: wide steps, then small ones
HELD_OUT_EVERY = 3  # every third episode is held out for the check, if there are as many
CHECKED = 24  # best candidates that are replayed on the held-out episodes


class CalibrationReporter(Protocol):
    """Receives the progress of a search."""

    def stage(self, name: str, steps: int) -> None:
        """The next stage begins."""
        ...

    def advance(self) -> None:
        """One step of it is done."""
        ...


@dataclass(frozen=True)
class Calibration:
    """Result of a search. Drift is of delta frames, in normalised units; reuse is of all frames."""

    settings: ReuseSettings  # mode adaptive, with the chosen knobs
    tried: Sequence[
        CandidateResult
    ]  # all candidates, on the search frames; one over budget only until that was certain
    with_slack: CandidateResult  # the chosen settings, on the check frames, held to the budget as a session is
    without_slack: CandidateResult  # the same without pauses between frames
    episodes: int  # of search and check together
    searched: int  # frames
    checked: int  # held-out frames; 0: too few episodes to hold any out


class OverBudget(StillframeError):
    """No candidate stays within the budget; `tried` has the result of each."""

    def __init__(self, tried: Sequence[CandidateResult], budget: float):
        best = least_drift(tried)
        super().__init__(
            f"no knobs keep the drift's p90 within {budget:g}: the least was {best.drift(90):.4f}, at reuse "
            f"{best.reuse:.2f}; record more episodes, allow more with --drift-budget, or serve with mode 'exact'"
        )
        self.tried = tried


def calibrate(
    model: PolicyModel,
    settings: ReuseSettings,
    episodes: Sequence[RecordedEpisode],
    *,
    budget: float,
    frames: int,
    warn: Callable[[str], None],
    report: CalibrationReporter,
    criterion: str | None = None,
    decoding: DecodingSettings = DEFAULT_DECODING,
) -> Calibration:
    """Search over about `frames` frames for the most reuse with drift p90 within `budget`, normalised units.

    `criterion`: the only one to try; None: both. `decoding`: which actions of a chunk are played, whose
    drift counts.

    Raises OverBudget where nothing is, StillframeError for recordings that the checkpoint cannot answer.
    """
    picked = select_frames(episodes, frames)
    held = picked[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    answers = ChunkAnswers(decoding.ensemble, decoding.execute)
    search = EpisodeReplay(model, settings, answers)
    check = EpisodeReplay(model, settings, answers) if held else search
    load(search, [part for part in picked if part not in held], warn, report)
    if held:
        load(check, held, warn, report)
    grid = initial_grid(settings.adaptive, search.camera_tokens, criterion)
    tried = _search(search, grid, model.decoder.config.num_hidden_layers, budget, report)
    knobs = _age_limit(search, _check(check, tried, budget, report).knobs, budget, report)
    report.stage("figures", 2 * len(check.frames))
    return Calibration(
        settings=replace(settings, mode="adaptive", drift_budget=budget, adaptive=knobs),
        tried=tried,
        with_slack=check.with_slack([knobs], report.advance, bound=budget)[0],
        without_slack=check.without_slack(knobs, report.advance),
        episodes=len(picked),
        searched=len(search.frames),
        checked=len(check.frames) if held else 0,
    )


def select_frames(episodes: Sequence[RecordedEpisode], frames: int) -> list[tuple[RecordedEpisode, int]]:
    """Draw episodes at random, each with how many of its frames to use, until there are `frames`.

    Episodes of one frame are left out. Raises StillframeError if there is no other.
    """
    usable = [episode for episode in episodes if len(episode.files) > 1]
    if not usable:
        raise StillframeError("no recorded episode has two frames; record longer ones")
    shuffled = random.Random(0).sample(usable, len(usable))  # noqa: S311 (the same ones each time)
    picked, left = [], frames
    for episode in shuffled:
        if left > 1:
            picked.append((episode, min(left, len(episode.files))))
            left -= picked[-1][1]
    return picked


def load(
    replay: EpisodeReplay,
    picked: Sequence[tuple[RecordedEpisode, int]],
    warn: Callable[[str], None],
    report: CalibrationReporter,
) -> None:
    """Answer the selected frames densely. Raises StillframeError if none can be read."""
    report.stage("dense answers", sum(frames for _, frames in picked))
    for episode, frames in picked:
        replay.add(islice(episode.frames(warn), frames), report.advance)
    if not replay.frames:
        raise StillframeError("not one recorded frame could be read; see the warnings above")


def _search(
    replay: EpisodeReplay, grid: Sequence[AdaptiveSettings], layers: int, budget: float, report: CalibrationReporter
) -> list[CandidateResult]:
    """Results of the grid, then of two rounds around the best so far."""
    report.stage("wide search", len(replay.frames))
    tried = replay.with_slack(grid, report.advance, budget)
    for reach in REACHES:
        best = best_within_budget(tried, budget)
        seeds = refinement_seeds(tried, budget) if best is None or reach == REACHES[0] else [best.knobs]
        near = [knobs for seed in seeds for knobs in neighbours(seed, replay.camera_tokens, layers, reach)]
        known = [outcome.knobs for outcome in tried]
        new = [knobs for index, knobs in enumerate(near) if knobs not in [*known, *near[:index]]]
        report.stage("around the best", len(replay.frames))
        tried += replay.with_slack(new, report.advance, budget)
    return tried


def _check(
    replay: EpisodeReplay, tried: Sequence[CandidateResult], budget: float, report: CalibrationReporter
) -> CandidateResult:
    """The best of those that stay within budget on held-out frames too: some only fit the search frames."""
    best = [outcome.knobs for outcome in within_budget(tried, budget)[:CHECKED]]
    report.stage("check", len(replay.frames))
    chosen = best_within_budget(replay.with_slack(best, report.advance, budget), budget)
    if chosen is None:
        raise OverBudget(tried, budget)
    return chosen


def _age_limit(
    replay: EpisodeReplay, knobs: AdaptiveSettings, budget: float, report: CalibrationReporter
) -> AdaptiveSettings:
    """Choose the age limit, which matters without pauses: most reuse within budget, else least drift."""
    limits = [limit for limit in AGE_LIMITS if limit < knobs.keyframe_every] or [1]
    report.stage("age limits", len(limits) * len(replay.frames))
    aged = [replay.without_slack(replace(knobs, age_limit=limit), report.advance) for limit in limits]
    return (best_within_budget(aged, budget) or least_drift(aged)).knobs
