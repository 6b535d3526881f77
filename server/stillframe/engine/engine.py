"""The engine: a bounded queue in front of one thread that owns the device. Implements domain.Policy.

Knows deadlines and order; what computing a frame means is step.py's business.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from logging import Logger

import numpy as np

from stillframe.domain import Observation, PolicyInfo, Step
from stillframe.engine.step import step
from stillframe.errors import DeadlineExceeded, Internal, NotReady, Overloaded, RequestError
from stillframe.models.base import PolicyModel
from stillframe.stopwatch import Clock

RETRY_AFTER_S = 1.0
WARM_UP_STEPS = 2  # the first pays for allocations, the second shows what a frame costs


@dataclass(frozen=True)
class Job:
    """One frame waiting for the device."""

    observation: Observation
    entered_s: float
    expires_s: float
    answer: Future[Step]


class Engine:
    """Answers frames in the order in which they came, one at a time."""

    def __init__(self, model: PolicyModel, *, queue_frames: int, clock: Clock, log: Logger):
        self.info: PolicyInfo = model.info
        self._model = model
        self._clock = clock
        self._log = log
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
            self._enqueue(observation, max_age_s=float("inf")).result()
        self._warm = True

    def submit(self, observation: Observation, max_age_ms: float) -> Future[Step]:
        """Queue one frame; see domain.Policy. A full queue answers Overloaded at once, a closed engine NotReady."""
        if not (self._warm or self._closing):
            return _refused(NotReady("not-ready", "the policy is warming up", retry_after_s=RETRY_AFTER_S))
        return self._enqueue(observation, max_age_s=max_age_ms / 1e3)

    def close(self) -> None:
        """Answer what is queued, then end the thread. Frames that come later are told so."""
        with self._door:
            first = not self._closing
            self._closing = True
        if first:
            self._jobs.put(None)
        self._thread.join()

    def _enqueue(self, observation: Observation, max_age_s: float) -> Future[Step]:
        now = self._clock()
        job = Job(observation, now, now + max_age_s, Future())
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
        """The thread: one job after another until told to stop."""
        while (job := self._jobs.get()) is not None:
            if job.answer.set_running_or_notify_cancel():
                self._settle(job)

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
        return step(self._model, job.observation, self._clock, queued_ms=(now - job.entered_s) * 1e3)


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
