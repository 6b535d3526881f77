"""The engine: a fair line in front of one thread that owns the device. Implements domain.Policy.

Knows deadlines and pauses; what computing a frame means is step.py's business, what to do in a pause slack.py's, whose
turn it is line.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from logging import Logger

import numpy as np

from stillframe.domain import KVUsage, Observation, PolicyInfo, SessionRef, SlackReport, Step
from stillframe.engine.failures import RETRY_AFTER_S, let_go, told
from stillframe.engine.keeper import Asked, Keeper
from stillframe.engine.line import Line
from stillframe.engine.slack import rest
from stillframe.engine.step import step
from stillframe.errors import DeadlineExceeded, NotReady, RequestError
from stillframe.models.base import PolicyModel
from stillframe.reuse.kv import KVCorrupted
from stillframe.reuse.settings import DRAFTS_CHECKED, DecodingSettings, ReuseSettings
from stillframe.stopwatch import Clock

WARM_UP_STEPS = 2  # the first pays for allocations, the second shows what a frame costs


@dataclass(frozen=True)
class Job:
    """One frame waiting for the device."""

    asked: Asked
    entered_s: float
    expires_s: float
    answer: Future[Step]

    @property
    def key(self) -> str | None:
        """Whose turn it takes: its session's; all stateless frames take turns as one."""
        return self.asked.session.id if self.asked.session else None


@dataclass(frozen=True)
class Forget:
    """The errand of a session that is over."""

    session_id: str


class Engine:
    """Answers frames one at a time, a session's in the order in which they came; uses the pauses between them."""

    def __init__(
        self,
        model: PolicyModel,
        *,
        reuse: ReuseSettings,
        queue_frames: int,
        clock: Clock,
        log: Logger,
        watch: Callable[[SlackReport], None],
        decoding: DecodingSettings = DRAFTS_CHECKED,
    ):
        """Start the thread. `watch` is called in it with what each pause was used for. Raises ConfigError."""
        self.info: PolicyInfo = model.info
        self._model = model
        self._keeper = Keeper(model, reuse, clock, decoding=decoding)
        self._clock = clock
        self._log = log
        self._watch = watch
        self._line: Line[Job | Forget] = Line(queue_frames)
        self._warm = False
        self._turned = (clock(), False)  # when the device turned to what it does now; whether that is a frame
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Warm, and not stopping."""
        return self._warm and not self._line.closed

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

    @property
    def busy_s(self) -> float:
        """See domain.Policy. What a pause that does not give way keeps a frame waiting counts as well."""
        since_s, computing = self._turned
        if not computing:
            oldest_s = self._oldest_s()
            if oldest_s is None:
                return 0.0
            since_s = max(since_s, oldest_s)
        return max(0.0, self._clock() - since_s)

    def submit(self, observation: Observation, max_age_ms: float, session: SessionRef | None = None) -> Future[Step]:
        """Queue one frame; see domain.Policy. A full line answers Overloaded at once, a closed engine NotReady."""
        if not (self._warm or self._line.closed):
            return _refused(NotReady("not-ready", "the policy is warming up", retry_after_s=RETRY_AFTER_S))
        return self._enqueue(Asked(observation, session), max_age_s=max_age_ms / 1e3)

    def forget(self, session_id: str) -> None:
        """Free what a session left; see domain.Policy."""
        self._line.errand(session_id, Forget(session_id))

    def close(self) -> None:
        """Answer what is queued, then end the thread. Frames that come later are told so."""
        self._line.close()
        self._thread.join()

    def _enqueue(self, asked: Asked, max_age_s: float) -> Future[Step]:
        now_s = self._clock()
        job = Job(asked, now_s, now_s + max_age_s, Future())
        try:
            displaced = self._line.enter(job.key, job)
        except RequestError as error:
            return _refused(error)
        job.answer.add_done_callback(partial(self._left, job.key))  # not the job: what it holds would stay with it
        if isinstance(displaced, Job) and displaced.answer.set_running_or_notify_cancel():
            displaced.answer.set_exception(self._line.full())
        return job.answer

    def _left(self, key: str | None, answer: Future[Step]) -> None:
        """An answer is settled: if it was given up while it waited, its place is free."""
        if answer.cancelled() and self._line.leave(key, lambda due: isinstance(due, Job) and due.answer is answer):
            answer.set_running_or_notify_cancel()  # whoever waits() for it beside others

    def _run(self) -> None:
        """The thread: one frame or errand after another until told to stop; a pause between them is put to use."""
        while (due := self._next()) is not None:
            if isinstance(due, Forget):
                self._keeper.forget(due.session_id)
                self._line.forget(due.session_id)
            elif due.answer.set_running_or_notify_cancel():
                self._settle(due)

    def _next(self) -> Job | Forget | None:
        """Who is next; until there is somebody, what the last answers leave to be done."""
        while not self._line.wanted and self._rest():
            pass
        return self._line.next()

    def _rest(self) -> bool:
        """Use a pause for one session; return whether there was one to use it for. Never raises."""
        session = self._keeper.sessions.pending() if self._keeper.settings.slack else None
        if session is None:
            return False
        try:
            report = rest(self._model, self._keeper, session, self._clock, wanted=lambda: self._line.wanted)
            if report is not None:
                self._watch(self._timed(report))
        except KVCorrupted as error:
            self._log.error("a session starts anew: %s", error)
        except Exception as error:  # noqa: BLE001 (logged; nobody waits for what a pause brings)
            self._log.exception("a pause could not be used")
            session.pending = None
            let_go(error, self._model.device)
        return True

    def _timed(self, report: SlackReport) -> SlackReport:
        """Add how long a frame has waited that came in during the pause."""
        oldest_s = self._oldest_s()
        return report if oldest_s is None else replace(report, yield_ms=(self._clock() - oldest_s) * 1e3)

    def _oldest_s(self) -> float | None:
        """Since when a frame waits for its turn."""
        return min((due.entered_s for due in self._line.waiting if isinstance(due, Job)), default=None)

    def _settle(self, job: Job) -> None:
        """Put a step or an error into the job's answer; one frame's failure is never another's."""
        self._turned = (self._clock(), True)
        try:
            answer: Step | RequestError = self._compute(job)
        except Exception as error:  # noqa: BLE001 (the client is told; what is ours to mend is logged)
            answer = self._failed(job, error)
        self._turned = (self._clock(), False)
        if isinstance(answer, Step):
            job.answer.set_result(answer)
        else:
            job.answer.set_exception(answer)

    def _compute(self, job: Job) -> Step:
        """Walk one frame through the house, unless it is too old."""
        now_s = self._clock()
        waited_ms = (now_s - job.entered_s) * 1e3
        if now_s > job.expires_s:
            raise DeadlineExceeded("deadline-exceeded", f"The frame waited {waited_ms:.0f} ms, past its max_age_ms.")
        return step(self._model, self._keeper, job.asked, self._clock, queued_ms=waited_ms)

    def _failed(self, job: Job, error: Exception) -> RequestError:
        """What the client is told. What nobody foresaw is logged, and costs the session a keyframe."""
        if not isinstance(error, RequestError):
            self._log.exception("a frame failed")
            if job.asked.session is not None:
                self._keeper.doubt(job.asked.session)
        let_go(error, self._model.device)
        return told(error)


def _refused(error: RequestError) -> Future[Step]:
    """An answer that is an error from the start."""
    answer: Future[Step] = Future()
    answer.set_exception(error)
    return answer
