from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain import Observation, RtcRequest, SessionRef, ShadowReport
from stillframe.engine.engine import Engine
from stillframe.engine.preemption import Preempted, yielding_between_blocks
from stillframe.engine.requests import FrameRequest
from stillframe.engine.shadow import MOST_WAITING, Shadow, is_sampled
from stillframe.errors import ConfigError, Overloaded
from stillframe.models.side_by_side import side_by_side
from stillframe.testing import state_info

Make = Callable[..., Any]
LOG = logging.getLogger("shadow")
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
STATS = {"q01": [-2.0] * 7, "q99": [2.0] * 7, "mask": [True] * 7}


def never() -> bool:
    """No frame waits."""
    return False


@pytest.fixture
def made(robots: Make) -> Make:
    """Make a shadow: it, its reports, and the robot whose frames it gets.

    `first` changes the first policy's contract, `other` the second policy.
    """

    def make(
        share: float = 1.0, *, first: Any = None, other: Make = lambda _: None
    ) -> tuple[Shadow, list[ShadowReport], Any]:
        bench, second = robots("adaptive"), robots().model
        other(second)
        reports: list[ShadowReport] = []
        info = bench.model.info if first is None else first(bench.model.info)
        return Shadow(second, info, share, clock=bench.clock, log=LOG, report=reports.append), reports, bench

    return make


def frame(picture: Any, robot: str | None = "a", **place: Any) -> FrameRequest:
    """A frame of a robot."""
    ref = None if robot is None else SessionRef(robot, **place)
    return FrameRequest(Observation({"front": picture}, "reach the red cube"), ref)


def louder(model: Any) -> None:
    """Other weights."""
    model.eyes = model.eyes * 3


def test_the_same_weights_answer_a_whole_frame_alike(made: Make, picture: Make) -> None:
    """Nothing was reused in a keyframe: the distance is zero, and the frame is done with."""
    shadow, reports, bench = made()
    shadow.add([frame(picture(0))], [bench.see(picture(0))])

    assert shadow.compute(never, lambda: 5.0)
    assert reports[0].outcome == "compared"
    assert reports[0].by_action == (0.0,)
    assert reports[0].yield_ms is None
    assert not shadow.compute(never, lambda: None)


def test_other_weights_are_as_far_as_their_answers(made: Make, picture: Make) -> None:
    """The worst dimension, in half ranges of the first policy's statistics, whichever the second's are."""
    wide = lambda info: replace(info, norm_stats={"toy": STATS})  # noqa: E731
    shadow, reports, bench = made(first=wide, other=louder)
    answer = bench.see(picture(1))
    shadow.add([frame(picture(1))], [answer])
    shadow.compute(never, lambda: None)
    alone = shadow._answer(Observation({"front": picture(1)}, "reach the red cube"), SessionRef("b"), "toy")

    apart = float(np.abs(alone.chunk.actions - answer.chunk.actions).max()) / 2
    assert apart > 0
    assert reports[0].by_action == pytest.approx((apart,))


def test_what_was_reused_shows(made: Make, picture: Make, changed: Make) -> None:
    """The same weights computed whole are as far from a delta frame's answer as an idle refresh finds."""
    shadow, reports, bench = made()
    bench.see(picture(0))
    bench.refresh()
    now = changed(picture(0), 0, 6)
    answer = bench.see(now)
    assert answer.report.cache.frame == "delta"
    shadow.add([frame(now, seq=1)], [answer])
    shadow.compute(never, lambda: None)

    assert reports[0].by_action == pytest.approx(bench.refresh().by_action)


def test_a_frame_that_comes_in_ends_it_between_two_blocks(made: Make, picture: Make) -> None:
    """What was begun is put back, with how long the robot waited, and is compared when there is time again."""
    shadow, reports, bench = made()
    seen: list[int] = []
    rows = shadow._core.model.count_passes()
    shadow.add([frame(picture(0))], [bench.see(picture(0))])

    def from_the_third_on() -> bool:
        seen.append(1)
        return len(seen) >= 3

    assert shadow.compute(from_the_third_on, lambda: 5.0)
    assert [(one.outcome, one.yield_ms) for one in reports] == [("preempted", 5.0)]
    assert len(rows) == 1  # the prefill had begun
    assert shadow.compute(never, lambda: None)
    assert reports[1].outcome == "compared"
    assert shadow._core.cache.usage.sessions == 0


def test_what_it_answers_leaves_nothing(made: Make, picture: Make) -> None:
    """However many robots there are, it holds no session and no memory for them."""
    shadow, reports, bench = made()
    for robot in "abc":
        shadow.add([frame(picture(0), robot)], [bench.see(picture(0), robot)])
        shadow.compute(never, lambda: None)

    assert [one.outcome for one in reports] == ["compared"] * 3
    assert [shadow._core.cache.sessions.known(robot) for robot in "abc"] == [None] * 3


def test_frames_that_cannot_be_compared_are_not_taken(made: Make, picture: Make) -> None:
    """Of no session, held to another chunk, or without an action."""
    shadow, reports, bench = made()
    answer = bench.see(picture(0))
    held = frame(picture(0), rtc=RtcRequest(1, 1))
    shadow.add(
        [frame(picture(0), None), held, frame(picture(0), "b")],
        [answer, answer, Overloaded("queue-full", "later", retry_after_s=1)],
    )

    assert not shadow.compute(never, lambda: None)
    assert reports == []


def test_the_newest_frames_wait(made: Make, picture: Make) -> None:
    """Of more than may wait the oldest are left out, and counted."""
    shadow, reports, bench = made()
    answer = bench.see(picture(0))
    for seq in range(MOST_WAITING + 3):
        shadow.add([frame(picture(0), seq=seq)], [answer])

    assert [one.outcome for one in reports] == ["skipped"] * 3
    assert [one.session.seq for one in shadow._waiting] == [*range(3, MOST_WAITING + 3)]


@given(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.text("abc", min_size=1, max_size=3))
def test_its_share_is_of_an_episodes_frames(share: float, robot: str) -> None:
    """About as many as were asked for, the same ones each time, and the others beside them when more are."""
    refs = [SessionRef(robot, seq=seq) for seq in range(400)]
    taken = [ref for ref in refs if is_sampled(ref, share)]

    assert abs(len(taken) - share * 400) <= 60  # six standard deviations
    assert taken == [ref for ref in refs if is_sampled(ref, share)]
    assert {*taken} <= {ref for ref in refs if is_sampled(ref, min(1.0, 2 * share))}


def test_a_failure_is_counted_and_said_once(made: Make, picture: Make, caplog: Any) -> None:
    """The next frame is compared as ever."""
    shadow, reports, bench = made()
    answer = bench.see(picture(0))
    for seq in range(3):
        shadow.add([frame(picture(0), seq=seq)], [answer])
    for broken in (ValueError("by a test"), ValueError("again"), None):
        shadow._core.model.broken = broken
        shadow.compute(never, lambda: None)

    assert [one.outcome for one in reports] == ["failed", "failed", "compared"]
    assert [record.message for record in caplog.records if record.name == "shadow"] == [
        "the shadow toy failed on a frame; later ones are counted"
    ]


def test_policies_of_other_robots_are_refused(made: Make) -> None:
    """Other numbers in an action, a state that frames do not bring, cameras that the first does not have."""
    with pytest.raises(ConfigError, match="those of toy x, y; expected a policy of the same robot"):
        made(first=lambda info: replace(info, action_names=("x", "y")))
    reads = state_info("grip")
    with pytest.raises(ConfigError, match="reads the state grip, and toy reads none"):
        made(other=lambda model: setattr(model, "info", replace(model.info, state=reads)))
    with pytest.raises(ConfigError, match=r"cannot answer the frames of toy: expected \('front'"):
        made(first=lambda info: replace(info, cameras=("left",)))


def test_statistics_of_its_own_where_the_names_differ(made: Make, picture: Make) -> None:
    """A checkpoint that was fine-tuned under another name is compared all the same."""
    named = lambda info: replace(info, norm_stats={"bridge": STATS}, default_unnorm_key="bridge")  # noqa: E731
    shadow, reports, bench = made(first=named)
    answer = bench.see(picture(0))
    keyed = replace(answer, chunk=replace(answer.chunk, unnorm_key="bridge"))
    shadow.add([frame(picture(0))], [keyed])
    shadow.compute(never, lambda: None)

    assert reports[0].outcome == "compared"


def test_the_engine_lets_it_compute_when_nothing_else_is_to_be_done(made: Make, picture: Make) -> None:
    """Frames that are answered come to it, and are compared without being asked for; stateless ones are not."""
    shadow, reports, bench = made()
    knobs = {"reuse": bench.settings, "queue_frames": 8, "clock": bench.clock, "log": LOG, "on_refresh": lambda _: None}
    engine = Engine(bench.model, shadow=shadow, **knobs)
    engine.warm_up()
    seen = Observation({"front": picture(0)}, "reach")
    for session in (SessionRef("a"), None, SessionRef("a", seq=1)):
        engine.submit(seen, 1e6, session).result(WAIT_S)
    give_up_s = time.monotonic() + WAIT_S
    while sum(one.outcome == "compared" for one in reports) < 2:
        assert time.monotonic() < give_up_s
        time.sleep(0.001)
    engine.close()

    assert {one.outcome for one in reports} <= {"compared", "preempted"}
    assert sum(one.outcome == "compared" for one in reports) == 2


def test_a_part_on_a_thread_of_its_own_gives_way_too() -> None:
    """Of two networks side by side each ends before its next block, whichever thread has it; later ones run on."""
    network, run = torch.nn.Sequential(torch.nn.Linear(2, 2)), side_by_side(torch.device("cpu"))
    for jobs in ([lambda: network(torch.zeros(1, 2)), lambda: torch.zeros(0)],
                 [lambda: torch.zeros(0), lambda: network(torch.zeros(1, 2))]):  # fmt: skip
        with yielding_between_blocks(torch.device("cpu"), lambda: True), pytest.raises(Preempted):
            run(jobs)

        assert len(run(jobs)) == 2


def test_other_threads_networks_are_left_alone() -> None:
    """A frame that waits ends the work of this thread alone, and only within the block."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with yielding_between_blocks(torch.device("cpu"), lambda: True):
        with pytest.raises(Preempted):
            network(torch.zeros(1, 2))
        done: list[Any] = []
        other = threading.Thread(target=lambda: done.append(network(torch.zeros(1, 2))))
        other.start()
        other.join()

    assert len(done) == 1
    assert network(torch.zeros(1, 2)).shape == (1, 2)
