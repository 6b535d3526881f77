from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from stillframe.domain import KeyframeReason, Observation, SessionRef
from stillframe.engine.requests import FrameRequest
from stillframe.models.llama.draft import Draft

Make = Callable[..., Any]


def scheduled(bench: Any, image: Any, session: Any) -> Any:
    """A frame of that session, with its plan and nothing else."""
    request = FrameRequest(Observation({"front": image}, "reach the red cube"), SessionRef("a"))
    with torch.inference_mode():
        prepared = bench.model.prepare(request.observation)
        (rows,) = bench.model.embed([prepared])
        return bench.core.scheduler.schedule(request, prepared, rows, session)


def test_a_plan_allocates_nothing(robots: Make, picture: Make, changed: Make) -> None:
    """Neither a slot nor a place in a session: a second plan of the same frame is the first again."""
    bench = robots()
    bench.see(picture(0))
    before, session = bench.core.cache.usage, bench.session("a")
    first, second = (scheduled(bench, changed(picture(0), 3), session) for _ in range(2))

    assert bench.core.cache.usage == before
    assert (session.cause, session.reuse.since_dense) == (None, 0)
    assert (first.keyframe, first.is_cached) == (second.keyframe, second.is_cached) == (None, True)
    assert first.plan.order.tolist() == second.plan.order.tolist()


def test_a_stateless_frame_is_computed_whole_and_not_cached(robots: Make, picture: Make) -> None:
    """Whatever the default mode is."""
    frame = scheduled(robots("adaptive", task_top_k=3), picture(0), None)

    assert (frame.mode, frame.keyframe, frame.is_cached, frame.probe) == ("off", KeyframeReason.STATELESS, False, None)
    assert frame.plan.reuse_ratio == 0


@pytest.mark.parametrize(("mode", "probed"), [("adaptive", True), ("paper", False)])
def test_a_dense_pass_of_a_frame_is_probed_where_the_session_goes_on_from_it(
    robots: Make, picture: Make, mode: str, *, probed: bool
) -> None:
    """In bounded modes; as published it is only measured. The frame itself stays as it was planned."""
    bench = robots(mode, task_top_k=3, paper_task_top_k=3, paper_k=None)
    bench.see(picture(0))
    bench.see(picture(0))
    frame = bench.frame
    dense = bench.core.scheduler.whole(frame, Draft(frame.draft.ids))

    assert dense.plan.reuse_ratio == 0 < frame.plan.reuse_ratio
    assert (dense.probe is not None) is probed
    assert dense.decoded is None is not frame.decoded


def test_a_copy_of_a_frame_is_not_planned(robots: Make, picture: Make) -> None:
    """`replace` keeps what planning compares, and nothing of what was decided or computed."""
    bench = robots()
    bench.see(picture(0))
    copy = replace(bench.frame, mode="off")

    assert copy.rows is bench.frame.rows
    assert (copy.keyframe, copy.probe, copy.is_cached, copy.decoded) == (None, None, False, None)
    assert not hasattr(copy, "plan")
    assert not hasattr(copy, "kv")
    assert repr(copy).startswith("ScheduledFrame(")
