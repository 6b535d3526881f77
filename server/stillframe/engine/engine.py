"""The engine: a bounded queue in front of one thread that owns the device. Implements domain.Policy.

Knows deadlines, order and pauses; what computing a frame means is step.py's business, what to do in a pause slack.py's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from logging import Logger

import numpy as np

from stillframe.domain import KVUsage, Observation, PolicyInfo, SessionRef, SlackReport, Step
from stillframe.engine.keeper import Asked, Keeper
from stillframe.engine.slack import rest
from stillframe.engine.step import step
from stillframe.errors import DeadlineExceeded, Internal, NotReady, Overloaded, RequestError
from stillframe.models.base import PolicyModel
from stillframe.reuse.kv import KVCorrupted
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock

RETRY_AFTER_S = 1.0
WARM_UP_STEPS = 2  # the first pays for allocations, the second shows what a frame costs


@dataclass(frozen=True)
class Job:
    """One frame waiting for the device."""

    asked: Asked
    entered_s: float
    expires_s: float
    answer: Future[Step]


class Engine:
    """Answers frames in the order in which they came, one at a time; uses the pauses between them."""

    def __init__(
        self,
        model: PolicyModel,
        *,
        reuse: ReuseSettings,
        queue_frames: int,
        clock: Clock,
        log: Logger,
        watch: Callable[[SlackReport], None],
    ):
        """Start the thread. `watch` is called in it with what each pause was used for. Raises ConfigError."""
        self.info: PolicyInfo = model.info
        self._model = model
        self._keeper = Keeper(model, reuse, clock)
        self._clock = clock
        self._log = log
        self._watch = watch
        self._jobs: queue.Queue[Job | None] = queue.Queue(queue_frames)  # None: stop
        self._warm = False
        self._closing = False
        self._door = threading.Lock()  # held while a job enters, so that none enters behind the stop
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Warm, and not stopping."""
        return self._warm and not self._closing

    def warm_up(self) -> None:
        """Compute blank frames on the device's own thread until it is warm. Raises what computing them raises."""
        height, width = self.info.image_size
        blank = {camera: np.zeros((height, width, 3), np.uint8) for camera in self.info.cameras}
        observation = Observation(blank, "stay where you are", next(iter(self.info.norm_stats)))
        for _ in range(WARM_UP_STEPS):
            self._enqueue(Asked(observation), max_age_s=float("inf")).result()
        self._warm = True

    @property
    def usage(self) -> KVUsage:
        """How full the KV pool is now."""
        return self._keeper.usage

    def submit(self, observation: Observation, max_age_ms: float, session: SessionRef | None = None) -> Future[Step]:
        """Queue one frame; see domain.Policy. A full queue answers Overloaded at once, a closed engine NotReady."""
        if not (self._warm or self._closing):
            return _refused(NotReady("not-ready", "the policy is warming up", retry_after_s=RETRY_AFTER_S))
        asked = Asked(observation)
        if session is not None:
            asked = Asked(observation, self._keeper.sessions.episode(session.id), session.mode)
        return self._enqueue(asked, max_age_s=max_age_ms / 1e3)

    def reset(self, session_id: str) -> int:
        """Begin a session's next episode; see domain.Policy."""
        return self._keeper.sessions.reset(session_id).epoch

    def close(self) -> None:
        """Answer what is queued, then end the thread. Frames that come later are told so."""
        with self._door:
            first = not self._closing
            self._closing = True
        if first:
            self._jobs.put(None)
        self._thread.join()

    def _enqueue(self, asked: Asked, max_age_s: float) -> Future[Step]:
        now = self._clock()
        job = Job(asked, now, now + max_age_s, Future())
        with self._door:
            if self._closing:
                return _refused(NotReady("draining", "the daemon is stopping", retry_after_s=RETRY_AFTER_S))
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                detail = f"{self._jobs.maxsize} frames wait already; send fewer, or ask another daemon"
                return _refused(Overloaded("overloaded", detail, retry_after_s=RETRY_AFTER_S))
        return job.answer

    def _run(self) -> None:
        """The thread: one job after another until told to stop; a pause between them is put to use."""
        while (job := self._next()) is not None:
            if job.answer.set_running_or_notify_cancel():
                self._settle(job)

    def _next(self) -> Job | None:
        """The next job; until there is one, what the last answers leave to be done."""
        while self._jobs.empty() and self._rest():
            pass
        return self._jobs.get()

    def _rest(self) -> bool:
        """Use a pause for one session; return whether there was one to use it for. Never raises."""
        session = self._keeper.sessions.pending() if self._keeper.settings.slack else None
        if session is None:
            return False
        try:
            report = rest(self._model, self._keeper, session, self._clock, wanted=lambda: not self._jobs.empty())
            if report is not None:
                self._watch(self._timed(report))
        except KVCorrupted as error:
            self._log.error("a session starts anew: %s", error)
        except Exception:  # noqa: BLE001 (logged; nobody waits for what a pause brings)
            self._log.exception("a pause could not be used")
            session.pending = None
        return True

    def _timed(self, report: SlackReport) -> SlackReport:
        """Add how long a frame has waited that came in during the pause."""
        waiting = None if self._jobs.empty() else self._jobs.queue[0]
        if waiting is None:
            return report
        return replace(report, yield_ms=(self._clock() - waiting.entered_s) * 1e3)

    def _settle(self, job: Job) -> None:
        """Put a step or an error into the job's answer; one frame's failure is never another's."""
        try:
            job.answer.set_result(self._compute(job))
        except RequestError as error:
            job.answer.set_exception(error)
        except Exception as error:  # noqa: BLE001 (logged, and answered with a problem)
            self._log.exception("a frame failed")
            job.answer.set_exception(_internal(error))

    def _compute(self, job: Job) -> Step:
        """Walk one frame through the house, unless it is too old."""
        now = self._clock()
        if now > job.expires_s:
            waited_ms = (now - job.entered_s) * 1e3
            raise DeadlineExceeded("deadline-exceeded", f"The frame waited {waited_ms:.0f} ms, past its max_age_ms.")
        return step(self._model, self._keeper, job.asked, self._clock, queued_ms=(now - job.entered_s) * 1e3)


def _internal(cause: Exception) -> Internal:
    """What the client is told: nothing of the cause, which is logged."""
    error = Internal("internal", "The policy failed on this frame; quote the request's id to whoever runs this.")
    error.__cause__ = cause
    return error


def _refused(error: RequestError) -> Future[Step]:
    """An answer that is an error from the start."""
    answer: Future[Step] = Future()
    answer.set_exception(error)
    return answer
