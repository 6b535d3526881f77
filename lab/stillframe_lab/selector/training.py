"""`stillframe train selector`: episodes, samples of them, and a selector that is fitted to these and written.

Knows the order of the work; its stages are the other modules'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from torch import Tensor

from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.selector import form_of
from stillframe.errors import StillframeError
from stillframe.models.base import PolicyModel
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.reader import check_pictures, read_episodes
from stillframe.reuse.selector import PatchSelector
from stillframe.reuse.selector_file import save_selector
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.selector.fitting import FitRecipe, fit
from stillframe_lab.selector.samples import Sampler, Samples

HELD_OUT_EVERY = 3
Episodes = Sequence[Sequence[RecordedFrame]]


class SelectorReporter(Protocol):
    """Receives the progress of a training."""

    def stage(self, name: str, steps: int) -> None:
        """The next stage begins."""
        ...

    def advance(self) -> None:
        """One step of it is done."""
        ...

    def say(self, line: str) -> None:
        """Something has to be known."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to train, and on what."""

    reuse: ReuseSettings  # the deployment's
    answers: ChunkAnswers  # what is played of a chunk, and counts as drift
    episodes: int
    passes: int  # times that each episode is gone through
    fit: FitRecipe = field(default_factory=FitRecipe)


def split(
    plan: Plan, model: PolicyModel, recording: Path | None, report: SelectorReporter, other: Path | None = None
) -> tuple[Episodes, Episodes]:
    """Episodes to learn from, and those held out: of the `other` recording, else every third.

    Raises StillframeError where that is none.
    """
    report.stage("episodes", plan.episodes)
    found = _played(plan, model, report) if recording is None else _read(plan, recording, report)
    if other is not None:
        report.stage("episodes held out", plan.episodes)
        return found, _read(plan, other, report)
    if len(found) < HELD_OUT_EVERY:
        raise StillframeError(f"{len(found)} episodes have two frames; expected {HELD_OUT_EVERY} at least")
    held = found[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    return [episode for at, episode in enumerate(found) if at % HELD_OUT_EVERY != HELD_OUT_EVERY - 1], held


def train(plan: Plan, model: PolicyModel, episodes: Episodes, out: Path, report: SelectorReporter) -> None:
    """Learn from these episodes, and write the selector.

    In two rounds: one that has learnt from tokens drawn by chance chooses those for which it expects too little, and
    learns what comes of these too.
    """
    sampler, form = Sampler(model, plan.reuse.adaptive, plan.answers), form_of(model, plan.reuse.adaptive)
    drawn: list[tuple[Tensor, Tensor, float]] = []
    selector: PatchSelector | None = None
    for name in ("by chance", "by itself"):
        report.stage(f"samples, {name}", len(episodes))
        for episode in episodes:
            drawn += sampler.samples(episode, plan.passes, selector)
            report.advance()
        report.stage("selector", plan.fit.epochs)
        selector = fit(form, Samples.joined(drawn), plan.fit, report.advance)
        save_selector(out, selector)


def _played(plan: Plan, model: PolicyModel, report: SelectorReporter) -> Episodes:
    from stillframe_lab.selector.episodes import play_episodes  # an extra that recordings do without

    return [*play_episodes(model, plan.episodes, plan.answers.execute or 1, lambda _: report.advance())]


def _read(plan: Plan, recording: Path, report: SelectorReporter) -> Episodes:
    episodes = [episode for episode in read_episodes(recording, report.say) if len(episode.files) > 1]
    check_pictures(episodes)
    found = []
    for episode in islice(episodes, plan.episodes):
        found.append([*episode.frames(report.say)])
        report.advance()
    return found
