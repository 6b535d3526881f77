"""The engine: a fair line in front of one thread that owns the device. Implements domain.Policy.

Knows deadlines and pauses; what computing a frame means is step.py's business, what to do in a pause slack.py's, whose
turn it is line.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from logging import Logger

import numpy as np

from stillframe.domain import (
    NO_HISTORY,
    HistoryInfo,
    KVUsage,
    Observation,
    PassCounts,
    PolicyInfo,
    SessionRef,
    SlackReport,
    Step,
)
from stillframe.engine.batch_policy import Batching
from stillframe.engine.cuda_graphs import Recording, replay_on_cuda
from stillframe.engine.device import RETRY_AFTER_S, let_go, told
from stillframe.engine.history import Recalling
from stillframe.engine.queue import Line
from stillframe.engine.refresh import rest
from stillframe.engine.requests import Preparation
from stillframe.engine.session_cache import Asked, Keeper
from stillframe.engine.step import step
from stillframe.engine.termination import Ending, Tell, over
from stillframe.errors import DeadlineExceeded, Flaw, Internal, NotReady, RequestError
from stillframe.models.base import PolicyModel
from stillframe.models.runner import ModelRunner
from stillframe.reuse.kv import KVCorrupted
from stillframe.reuse.settings import (
    DRAFTS_CHECKED,
    REPLAYED,
    TOGETHER,
    BatchingSettings,
    DecodingSettings,
    GraphSettings,
    ReuseSettings,
)
from stillframe.stopwatch import Clock

WARM_UP_STEPS = 2  # the first pays for allocations, the second shows what a frame costs


@dataclass(frozen=True)
class Stateless:
    """The key of a caller's frames without a session: they take turns as one session does."""

    share: str


Key = str | Stateless  # whose turn a frame takes: its session's, by id


@dataclass(frozen=True, eq=False)
class Job:
    """One frame waiting for the device."""

    observation: Observation
    session: SessionRef | None
    key: Key
    preparation: Preparation
    entered_s: float
    expires_s: float
    answer: Future[Step]

    def asked(self, now_s: float) -> Asked:
        """As the device comes to it."""
        return Asked(self.observation, self.session, (now_s - self.entered_s) * 1e3, self.preparation)


@dataclass(frozen=True)
class Forget:
    """The errand of a session that is over."""

    session_id: str


class Engine:
    """Answers frames, those that wait together side by side; a session's one by one, in the order in which they came.

    Uses the pauses between them.
    """

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
        batching: BatchingSettings = TOGETHER,
        graphs: GraphSettings = REPLAYED,
        recalling: Recalling | None = None,
        forgetful: HistoryInfo = NO_HISTORY,
        refused: Callable[[Flaw], None] = lambda _: None,
        ended: Tell = lambda _: None,
    ):
        """Start the thread. Raises ConfigError.

        In it `watch` is called with what each pause was used for, `refused` with why something was no action, `ended`
        with what ends it, should that be anything but `close`.
        `forgetful` says why answers look at no older frames, where there is no `recalling`.
        """
        self.info: PolicyInfo = replace(model.info, history=recalling.info if recalling else forgetful)
        self._model = model
        self._runner = ModelRunner.eager(model)
        self._keeper = Keeper(model, reuse, clock, decoding=decoding, recalling=recalling)
        self._clock = clock
        self._log = log
        self._watch = watch
        self._count_refused = refused
        self._line: Line[Job | Forget] = Line(queue_frames, plural=lambda key: isinstance(key, Stateless))
        self._batching = Batching(batching)
        self._recording = Recording(graphs, batching.most, reuse.slot_text_tokens)
        self.pass_counts: PassCounts | None = None  # of a GPU, once it replays
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._warm = False
        self._ending = Ending(ended)
        self._turned = (clock(), False)  # when the device turned to what it does now; whether that is a frame
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Warm, not stopping, and not at its end."""
        return self._warm and not self._line.closed and self._ending.cause is None

    def warm_up(self) -> None:
        """Compute blank frames on the device's own thread until it is warm. Raises what computing them raises.

        A GPU's passes are recorded before, by the thread that calls this: the device's own has nothing to do yet.
        """
        self._runner = replay_on_cuda(self._model, self._keeper.storage.pool, self._recording, self._log)
        self.pass_counts = self._runner.counts
        height, width = self.info.image_size
        blank = {camera: np.zeros((height, width, 3), np.uint8) for camera in self.info.cameras}
        observation = Observation(blank, "stay where you are", next(iter(self.info.norm_stats)))
        for _ in range(WARM_UP_STEPS):
            self._enqueue(observation, None, share="", max_age_s=float("inf")).result()
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

    def submit(
        self, observation: Observation, max_age_ms: float, session: SessionRef | None = None, *, share: str = ""
    ) -> Future[Step]:
        """Queue one frame; see domain.Policy. A full line answers Overloaded at once, a closed engine NotReady."""
        if self._ending.cause is not None:
            return _refused(over())
        if not (self._warm or self._line.closed):
            return _refused(NotReady("not-ready", "the policy is warming up", retry_after_s=RETRY_AFTER_S))
        share = session.share if session else share
        return self._enqueue(observation, session, share=share, max_age_s=max_age_ms / 1e3)

    def forget(self, session_id: str) -> None:
        """Free what a session left; see domain.Policy."""
        self._line.errand(session_id, Forget(session_id))

    def close(self) -> None:
        """Answer what is queued, then end the thread. Frames that come later are told so."""
        self._line.close()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _enqueue(
        self, observation: Observation, session: SessionRef | None, share: str, max_age_s: float
    ) -> Future[Step]:
        now_s = self._clock()
        preparation = Preparation(self._model.prepare, observation)
        key = session.id if session else Stateless(share)
        job = Job(observation, session, key, preparation, now_s, now_s + max_age_s, Future())
        try:
            displaced = self._line.enter(job.key, job, share)
        except RequestError as error:
            return _refused(error)
        preparation.begin(self._pool)
        self._ending.watch(job.answer)
        job.answer.add_done_callback(
            partial(self._left, job.key, preparation)
        )  # not the job: what it holds would stay with it
        if isinstance(displaced, Job) and displaced.answer.set_running_or_notify_cancel():
            displaced.answer.set_exception(self._line.full())
        return job.answer

    def _left(self, key: Key, preparation: Preparation, answer: Future[Step]) -> None:
        """An answer is settled: if it was given up while it waited, its place is free."""
        preparation.over()
        if answer.cancelled() and self._line.leave(key, lambda due: isinstance(due, Job) and due.answer is answer):
            answer.set_running_or_notify_cancel()  # whoever waits() for it beside others

    def _run(self) -> None:
        """The thread. Whatever ends it but `close` is the end of the engine: nothing may wait for it in vain."""
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 (SystemExit in a callback ends a thread in silence)
            self._end(error)

    def _end(self, error: BaseException) -> None:
        """Say why, let nothing in any more, and answer what waits."""
        with suppress(Exception):
            self._log.critical("the engine has ended: %s", type(error).__name__, exc_info=error)
        with suppress(Exception):
            self._line.close()
        self._ending.come(error)

    def _serve(self) -> None:
        """Frames or an errand after others until told to stop; a pause between them is put to use."""
        while due := self._next():
            self._settle([job for job in due if isinstance(job, Job) and job.answer.set_running_or_notify_cancel()])
            for errand in due:
                if isinstance(errand, Forget):
                    self._keeper.forget(errand.session_id)
                    self._line.forget(errand.session_id)

    def _next(self) -> list[Job | Forget]:
        """Who is next; until there is somebody, what the last answers leave to be done."""
        while not self._line.wanted and self._rest():
            pass
        return self._line.next(self._joins)

    def _joins(self, taken: Sequence[Job | Forget], due: Job | Forget) -> bool:
        """Whether a frame is computed beside others rather than after them."""
        return isinstance(due, Job) and self._batching.joins(
            len(taken), due.expires_s - self._clock(), shared=self._line.shared
        )

    def _rest(self) -> bool:
        """Use a pause for one session; return whether there was one to use it for. Never raises."""
        session = self._keeper.sessions.pending() if self._keeper.settings.slack else None
        if session is None:
            return False
        try:
            report = rest(self._runner, self._keeper, session, self._clock, wanted=lambda: self._line.wanted)
            if report is not None:
                self._watch(self._timed(report))
        except KVCorrupted as error:
            self._log.error("a session starts anew: %s", error)
        except Internal as error:
            self._refused(error)
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

    def _settle(self, jobs: Sequence[Job]) -> None:
        """Put steps or errors into the jobs' answers."""
        self._turned = (self._clock(), bool(jobs))
        answers = self._computed(jobs)
        self._turned = (self._clock(), False)
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, Step):
                job.answer.set_result(answer)
            else:
                self._refused(answer)
                let_go(answer, self._model.device)
                job.answer.set_exception(answer)

    def _refused(self, error: RequestError) -> None:
        """What the policy said was no action: logged and counted."""
        if isinstance(error, Internal) and error.flaw is not None:
            self._log.error("what the policy said is no action (%s): %s", error.flaw, error)
            with suppress(Exception):  # whoever counts is no reason to answer nobody
                self._count_refused(error.flaw)

    def _computed(self, jobs: Sequence[Job]) -> list[Step | RequestError]:
        """Walk frames through the house, unless they are too old; one frame's failure is never another's."""
        now_s = self._clock()
        young = [job for job in jobs if now_s <= job.expires_s]
        try:
            answers = iter(self._stepped(young, now_s))
        except Exception as error:  # noqa: BLE001 (the clients are told; what is ours to mend is logged)
            answers = iter(
                [self._failed(job, error) for job in young] if len(young) == 1 else self._one_by_one(young, error)
            )
        return [next(answers) if job in young else _too_old(job, now_s) for job in jobs]

    def _stepped(self, jobs: Sequence[Job], now_s: float) -> list[Step | RequestError]:
        answers = step(self._runner, self._keeper, [job.asked(now_s) for job in jobs], self._clock) if jobs else []
        if jobs:
            self._batching.saw(len(jobs), self._clock() - now_s)
        return answers

    def _one_by_one(self, jobs: Sequence[Job], error: Exception) -> list[Step | RequestError]:
        """Several frames failed together, nobody knows which of them: each gets another chance, whole and alone."""
        self._log.warning("%d frames failed side by side, and are computed one by one: %s", len(jobs), error)
        for job in jobs:
            self._doubt(job)
        let_go(error, self._model.device)
        return [answer for job in jobs for answer in self._computed([job])]

    def _failed(self, job: Job, error: Exception) -> RequestError:
        """What the client is told. What nobody foresaw is logged, and costs the session a keyframe."""
        if not isinstance(error, RequestError):
            self._log.exception("a frame failed")
            self._doubt(job)
        let_go(error, self._model.device)
        return told(error)

    def _doubt(self, job: Job) -> None:
        if job.session is not None:
            self._keeper.doubt(job.session)


def _too_old(job: Job, now_s: float) -> RequestError:
    waited_ms = (now_s - job.entered_s) * 1e3
    return DeadlineExceeded("deadline-exceeded", f"The frame waited {waited_ms:.0f} ms, past its max_age_ms.")


def _refused(error: RequestError) -> Future[Step]:
    """An answer that is an error from the start."""
    answer: Future[Step] = Future()
    answer.set_exception(error)
    return answer
