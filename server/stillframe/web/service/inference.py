"""Submits a parsed frame to its session and the policy, and awaits the reply: for every wire.

Knows no HTTP and no dialect: sessions, deadlines and metrics. The event loop only awaits futures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from stillframe.domain import Observation, Policy, Step
from stillframe.errors import DeadlineExceeded, NotReady
from stillframe.metrics import FrameEnd, Metrics, Outcome
from stillframe.sessions.pending import FrameSubmission, Ticket
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import Connection, Session
from stillframe.stopwatch import Stopwatch
from stillframe.tracing import AnsweredFrame, FrameTracer, Headers, timeline
from stillframe.web.dialects.base import Reply
from stillframe.web.http.limits import Limits
from stillframe.web.http.reply_metadata import history_report, input_report, reuse_report, rtc_report
from stillframe.web.service.frame_parser import NO_INSTRUCTION, ParsedFrame, missing_instruction
from stillframe.web.service.interpretation_log import InterpretationLog
from stillframe.web.service.lifecycle import Lifecycle

UNREAD_STATE = "The frame holds the robot's state, which this policy does not read; it was left aside."


@dataclass(frozen=True)
class InferenceService:
    """What every wire needs to answer a frame."""

    lifecycle: Lifecycle
    registry: SessionRegistry
    limits: Limits
    metrics: Metrics
    interpretation_log: InterpretationLog = field(default_factory=InterpretationLog)
    tracer: FrameTracer | None = None  # None: no frame is traced

    def frame(
        self, route: str, headers: Headers, request_id: str, age_ms: float = 0.0
    ) -> AbstractContextManager[FrameEnd]:
        """Count, time and, where it is sampled, trace one frame, which arrived `age_ms` ago."""
        trace = None if self.tracer is None else self.tracer.begin(route, headers, request_id, age_ms)
        return self.metrics.frame(route, trace)

    async def infer(
        self,
        frame: ParsedFrame,
        session: Session | None,
        watch: Stopwatch,
        end: FrameEnd,
        share: str,
        connection: Connection | None = None,
    ) -> Reply:
        """Await the policy's reply; the frame's age counts from the arrival of its request. Raises RequestError.

        Readiness was checked on arrival: an admitted frame is answered even if draining has begun since.
        """
        policy = self.lifecycle.loaded_policy()
        waited_ms = watch.total_ms
        left_ms = frame.max_age_ms - waited_ms
        if left_ms <= 0:
            raise DeadlineExceeded("deadline-exceeded", f"Over {frame.max_age_ms:g} ms went by in arriving.")
        slack_ms = max(0.0, frame.slack_ms - waited_ms)
        ticket = self._submit(policy, frame, session, left_ms, slack_ms, share, connection)
        self.metrics.queued(ticket.future)
        try:
            step = await await_step(ticket.future, left_ms / 1000 + self.limits.answer_timeout_s)
        finally:
            ticket.give_up()
        unread = (UNREAD_STATE,) * frame.unread_state
        self.interpretation_log.record(frame.dialect.name, frame.cameras, (*frame.warnings, *unread))
        late = watch.total_ms > frame.max_age_ms
        end.outcome = Outcome.LATE if late else Outcome.ANSWERED
        if end.trace is not None:
            end.trace.answered(_traced(session, ticket, step, watch, waited_ms))
        return self._answer(policy, frame, session, ticket, step, watch, late=late)

    def _submit(
        self,
        policy: Policy,
        frame: ParsedFrame,
        session: Session | None,
        left_ms: float,
        slack_ms: float,
        share: str,
        connection: Connection | None,
    ) -> Ticket:
        if session is None or frame.session_fields is None:
            return Ticket(policy.submit(frame.observation, left_ms, share=share), epoch=0, seq=0, replayed=False)
        observation = _with_instruction(frame, session)
        fields = frame.session_fields
        ticket = self.registry.submit(
            session,
            FrameSubmission(
                observation, left_ms, fields.position, frame.digest, fields.mode, connection, slack_ms, frame.rtc
            ),
        )
        if not ticket.replayed:
            session.instruction = observation.instruction
        return ticket

    def _answer(
        self,
        policy: Policy,
        frame: ParsedFrame,
        session: Session | None,
        ticket: Ticket,
        step: Step,
        watch: Stopwatch,
        *,
        late: bool,
    ) -> Reply:
        info, done = policy.info, step.report
        timing_ms = {**watch.laps_ms, **done.stages_ms, "total": watch.total_ms}
        self._count(step, watch.laps_ms, replayed=ticket.replayed, actions_left=frame.slack_ms > 0)
        return Reply(
            step.chunk,
            model=info.name,
            timing_ms={name: round(duration_ms, 3) for name, duration_ms in timing_ms.items()},
            report={
                **reuse_report(done.cache, session.id if session else None),
                **history_report(info.history, done.history),
                **rtc_report(done.rtc),
                **input_report(frame.cameras, (*frame.warnings, *_once_a_session(frame, session, step))),
            },
            late=late,
            replayed=ticket.replayed,
            echo=frame.echo,
        )

    def _count(self, step: Step, laps_ms: Mapping[str, float], *, replayed: bool, actions_left: bool) -> None:
        for name, duration_ms in laps_ms.items():
            self.metrics.stage(name, duration_ms)
        if not replayed:
            self.metrics.step(step.report, actions_left=actions_left)


def _traced(session: Session | None, ticket: Ticket, step: Step, watch: Stopwatch, waited_ms: float) -> AnsweredFrame:
    """What a trace says of an answered frame; of a repeat, no stages but its own."""
    engine_ms = {} if ticket.replayed else step.report.stages_ms
    stages = [*timeline(watch.laps_ms, waited_ms, engine_ms, watch.total_ms)]
    return AnsweredFrame(stages, step.report, session.id if session else None, ticket.replayed)


def _once_a_session(frame: ParsedFrame, session: Session | None, step: Step) -> tuple[str, ...]:
    """Return what is said with one frame of a session, and with repeats of it; nothing without a session."""
    if session is None or not frame.unread_state:
        return ()
    place = (step.report.cache.epoch, step.report.cache.seq)
    session.unread_state_at = session.unread_state_at or place
    return (UNREAD_STATE,) if session.unread_state_at == place else ()


def _with_instruction(frame: ParsedFrame, session: Session) -> Observation:
    """Fill a missing instruction in: the session's last one, else the deployment's. BadRequest where there is none."""
    if frame.observation.instruction != NO_INSTRUCTION:
        return frame.observation
    known = session.instruction or frame.default_instruction
    if known is None:
        raise missing_instruction()
    return replace(frame.observation, instruction=known)


async def await_step(future: Future[Step], timeout_s: float) -> Step:
    """Await a policy's future from the event loop; cancelling this wait does not cancel it for other waiters.

    Raises what the future holds; DeadlineExceeded after `timeout_s`; NotReady if the policy dropped the frame.
    """
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), timeout_s)
    except TimeoutError as error:
        raise DeadlineExceeded("deadline-exceeded", f"No action came within {timeout_s:.1f} s.") from error
    except asyncio.CancelledError:
        if _task_cancelled():
            raise
        raise NotReady("draining", "The daemon dropped this frame as it stopped.", retry_after_s=10.0) from None


def _task_cancelled() -> bool:
    """Whether this request was cancelled, rather than the frame by the policy."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
