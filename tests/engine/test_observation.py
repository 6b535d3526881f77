"""What an observer of frames is told, and that it can harm none of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stillframe.domain import FrameViews, Observation, PatchFate, SessionRef, SlackReport, Step
from stillframe.engine.engine import Engine
from stillframe.engine.observation import FrameReporter
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings

LOG = logging.getLogger("observer-test")


@dataclass
class Observer:
    """Notes what it is told, or raises."""

    wants: bool = True
    error: Exception | None = None
    told: list[tuple[SessionRef, Step, FrameViews | None]] = field(default_factory=list)
    refreshes: list[tuple[SessionRef, SlackReport]] = field(default_factory=list)

    def wants_views(self, session: SessionRef) -> bool:  # noqa: ARG002 (the protocol's)
        """As it was set."""
        return self.wants

    def answered(self, session: SessionRef, step: Step, views: FrameViews | None) -> None:
        """Note it."""
        if self.error is not None:
            raise self.error
        self.told.append((session, step, views))

    def refreshed(self, session: SessionRef, report: SlackReport) -> None:
        """Note it."""
        if self.error is not None:
            raise self.error
        self.refreshes.append((session, report))

    @property
    def fates(self) -> list[int]:
        """Of the last frame's first camera."""
        _, _, views = self.told[-1]
        assert views is not None
        return [int(fate) for fate in next(iter(views.cameras.values())).patches.ravel()]


@pytest.fixture
def watched(robots: Callable[..., Any]) -> Callable[..., tuple[Any, Observer]]:
    """Robots, and an observer of their frames."""

    def make(mode: str = "adaptive", **knobs: Any) -> tuple[Any, Observer]:
        made, observer = robots(mode, **knobs), Observer()
        made.core.reporter = FrameReporter(observer, LOG)
        return made, observer

    return make


def test_a_keyframe_is_all_computed(watched: Any, picture: Any) -> None:
    """No patch of an episode's first frame is anything but computed, and the words are the frame's own."""
    arms, observer = watched()
    answer = arms.see(picture(1), says="push it")
    (session, step, views), *_ = observer.told

    assert set(observer.fates) == {PatchFate.CHANGED}
    assert (session.id, step, views.instruction) == ("a", answer, "push it")


def test_a_delta_frames_patches_are_told_apart(watched: Any, picture: Any, changed: Any) -> None:
    """Reused are exactly the plan's, of the rest those that moved, and those beyond what may be reused."""
    arms, observer = watched(top_k=9)
    arms.see(picture(1))
    arms.see(changed(picture(1), 3, 7))
    fates = observer.fates
    reused = {at for at, fate in enumerate(fates) if fate == PatchFate.REUSED}

    assert reused == {*arms.plan.reused_patches.tolist()}
    assert len(reused) == 9
    assert {at for at, fate in enumerate(fates) if fate == PatchFate.CHANGED} == {3, 7}
    assert fates.count(PatchFate.LIMITED) == len(fates) - 9 - 2


def test_where_the_task_looks_is_told(watched: Any, picture: Any) -> None:
    """Of a still picture the task's patches are computed, and as many as were asked for."""
    arms, observer = watched(task_top_k=5)
    arms.see(picture(1))
    arms.see(picture(1))

    assert observer.fates.count(PatchFate.RELEVANT) == 5
    assert observer.fates.count(PatchFate.REUSED) == len(observer.fates) - 5


def test_each_camera_has_its_own_patches_and_picture(watched: Any, picture: Any, changed: Any) -> None:
    """What changed before the wrist is not shown as the front's; pictures are those that the model sees."""
    arms, observer = watched(cameras=("front", "wrist"))
    front, wrist = picture(1), picture(2)
    arms.see({"front": front, "wrist": wrist})
    arms.see({"front": front, "wrist": changed(wrist, 2)})
    cameras = observer.told[-1][2].cameras  # type: ignore[union-attr] # it wants them

    assert [*cameras] == ["front", "wrist"]
    assert not np.any(cameras["front"].patches == PatchFate.CHANGED)
    assert np.flatnonzero(cameras["wrist"].patches.ravel() == PatchFate.CHANGED).tolist() == [2]
    assert cameras["wrist"].patches.shape == (4, 4)
    assert_array_equal(cameras["front"].picture, front)


def test_frames_that_are_not_wanted_are_told_without_pictures(watched: Any, picture: Any) -> None:
    """Their figures are, and frames of no session are not told at all."""
    arms, observer = watched()
    observer.wants = False
    arms.see(picture(1))
    arms.see(picture(1), None)

    assert [views for _, _, views in observer.told] == [None]


def test_watching_changes_no_answer(robots: Any, watched: Any, picture: Any, changed: Any) -> None:
    """Tokens and reports are those of robots that nothing watches."""
    alone, (seen, _) = robots("adaptive"), watched()
    pictures = [picture(1), changed(picture(1), 3), changed(picture(1), 3, 5)]
    answers = [(alone.see(one), seen.see(one)) for one in pictures]

    for one, other in answers:
        assert_array_equal(one.chunk.tokens, other.chunk.tokens)
        assert one.report.cache == other.report.cache


def test_an_observer_that_fails_costs_no_frame(watched: Any, picture: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The answer comes, and the log has the story."""
    arms, observer = watched()
    observer.error = RuntimeError("unforeseen")

    assert isinstance(arms.see(picture(1)), Step)
    assert [record.getMessage() for record in caplog.records] == ["the observer of frames failed"]


@pytest.fixture
def engine(toy: Any, clock: Any) -> Iterator[Callable[..., Engine]]:
    """Engines with an observer."""
    made: list[Engine] = []

    def make(observer: Observer) -> Engine:
        adaptive = AdaptiveSettings(task_top_k=0, distance=0.05)
        settings = ReuseSettings(mode="adaptive", drift_budget=2, adaptive=adaptive)
        reports: list[SlackReport] = []
        made.append(
            Engine(
                toy(),
                reuse=settings,
                queue_frames=8,
                clock=clock,
                log=LOG,
                on_refresh=reports.append,
                observer=observer,
            )
        )
        made[-1].warm_up()
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait, within reason, for something that the engine's thread does."""
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def play(engine: Engine, picture: Any) -> None:
    """Two frames of one picture, so that the second is a delta."""
    for seq in range(2):
        engine.submit(Observation({"front": picture(1)}, "reach"), 1e6, SessionRef("arm", seq=seq)).result(60)


def test_an_engine_tells_of_answers_and_refreshes(engine: Any, picture: Any) -> None:
    """Each under its session's place; the warm-up's frames, which are no session's, are not told."""
    observer = Observer()
    play(engine(observer), picture)
    until(lambda: any(ref.seq == 1 for ref, _ in observer.refreshes))

    assert [(ref.id, ref.seq) for ref, _, _ in observer.told] == [("arm", 0), ("arm", 1)]
    assert observer.refreshes[-1][1].drift is not None


def test_an_engine_outlives_its_observer(engine: Any, picture: Any, caplog: Any) -> None:
    """Frames and refreshes go on whatever it raises."""
    observer = Observer(error=RuntimeError("unforeseen"))
    made = engine(observer)
    play(made, picture)
    until(lambda: "the observer of refreshes failed" in caplog.text)
    play(made, picture)

    assert made.ready
