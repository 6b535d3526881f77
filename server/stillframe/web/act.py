"""Walks one posted frame over the web floor: body, observation, policy, reply.

Knows no engine: it awaits the policy's future, with a deadline, and the event loop stays free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from stillframe.domain import Policy, PolicyInfo, Step
from stillframe.errors import DeadlineExceeded, NotReady
from stillframe.metrics import Metrics, Outcome
from stillframe.stopwatch import Stopwatch
from stillframe.web.body import read_body
from stillframe.web.dialects import write_action
from stillframe.web.frames import Frame, read_frame
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits
from stillframe.web.reports import report_headers, reuse_report
from stillframe.web.sessions import header_ids
from stillframe.web.unpacking import Unpacking

CLIENT_GONE = 499  # nobody reads it

T = TypeVar("T")


@dataclass(frozen=True)
class Act:
    """The /act routes and what they need."""

    lifecycle: Lifecycle
    limits: Limits
    metrics: Metrics
    unpacking: Unpacking

    async def answer(self, request: Request) -> Response:
        """Answer one frame with its action. Raises RequestError."""
        with self.metrics.frame(request.scope["route"].path) as end:
            watch = Stopwatch()
            policy = self.lifecycle.ready_policy()
            frame = await self._frame(request, policy.info, watch)
            step = await unless_gone(request, self._step(policy, frame, watch))
            if step is None:
                end.outcome = Outcome.ABANDONED
                return Response(status_code=CLIENT_GONE)
            late = watch.total_ms > frame.max_age_ms
            end.outcome = Outcome.LATE if late else Outcome.ANSWERED
            return self._reply(policy, frame, step, watch, late=late)

    async def _frame(self, request: Request, info: PolicyInfo, watch: Stopwatch) -> Frame:
        """Read and unpack; the place is taken before the body, so that bodies cannot pile up."""
        with self.unpacking.place():
            body = await read_body(request, self.limits)
            watch.lap("receive")
            frame = await self.unpacking.run(read_frame, body, info, self.limits, header_ids(request))
            watch.lap("unpack")
            return frame

    async def _step(self, policy: Policy, frame: Frame, watch: Stopwatch) -> Step:
        """Await the policy's answer; the frame's age counts from the arrival of its request."""
        left_ms = frame.max_age_ms - watch.total_ms
        if left_ms <= 0:
            raise DeadlineExceeded("deadline-exceeded", f"Over {frame.max_age_ms:g} ms went by in arriving.")
        future = policy.submit(frame.observation, left_ms, frame.session)
        self.metrics.queued(future)
        return await outcome(future, left_ms / 1000 + self.limits.answer_timeout_s)

    def _reply(self, policy: Policy, frame: Frame, step: Step, watch: Stopwatch, *, late: bool) -> Response:
        timing_ms = {**watch.laps_ms, **step.report.stages_ms, "total": watch.total_ms}
        rounded_ms = {name: round(duration_ms, 3) for name, duration_ms in timing_ms.items()}
        report = reuse_report(step.report.cache, frame.session)
        body = write_action(step.chunk, frame.dialect, model=policy.info.name, timing_ms=rounded_ms, report=report)
        for name, duration_ms in watch.laps_ms.items():
            self.metrics.stage(name, duration_ms)
        self.metrics.step(step.report)
        parts = [f"{name};dur={duration_ms}" for name, duration_ms in rounded_ms.items()]
        header = ", ".join([*parts, "late"] if late else parts)
        headers = {"Server-Timing": header, **report_headers(report)}
        return Response(body, headers=headers, media_type="application/json")


async def unless_gone(request: Request, answer: Coroutine[None, None, T]) -> T | None:
    """Await `answer`, but cancel it and return None as soon as the client has closed the connection."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        answering.cancel()
        leaving.cancel()


async def _departure(request: Request) -> None:
    """Until the client of a request whose body was read has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def outcome(future: Future[Step], timeout_s: float) -> Step:
    """Await a policy's future from the event loop.

    Raises what the future holds; DeadlineExceeded after `timeout_s`; NotReady if the policy dropped the frame.
    """
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
    except TimeoutError as error:
        raise DeadlineExceeded("deadline-exceeded", f"No action came within {timeout_s:.1f} s.") from error
    except asyncio.CancelledError:
        if _we_are_cancelled():
            raise
        raise NotReady("draining", "The daemon dropped this frame as it stopped.", retry_after_s=10.0) from None


def _we_are_cancelled() -> bool:
    """Whether somebody gave up on this request, rather than the policy on this frame."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
