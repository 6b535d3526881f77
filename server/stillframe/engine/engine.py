"""Owns the device thread: a fair queue in front of it, batches, idle refreshes. Implements domain.Policy.

Knows futures and the thread's order of work; how a batch is computed is worker.py's, whose turn it is queue.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from logging import Logger
from math import inf

from stillframe.domain import (
    NO_HISTORY,
    FrameObserver,
    HistoryInfo,
    KVUsage,
    Observation,
    PassCounts,
    PolicyInfo,
    SessionRef,
    SlackReport,
    Step,
    blank_observation,
)
from stillframe.engine.batch_policy import BatchPolicy
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs_on_cuda
from stillframe.engine.device import RETRY_AFTER_S
from stillframe.engine.history import HistoryManager
from stillframe.engine.observation import FrameReporter
from stillframe.engine.queue import FairQueue
from stillframe.engine.requests import EndSession, FrameRequest, Key, PrepareTask, Stateless
from stillframe.engine.settings import (
    DEFAULT_BATCHING,
    DEFAULT_DECODING,
    DEFAULT_GRAPHS,
    BatchingSettings,
    DecodingSettings,
    GraphSettings,
)
from stillframe.engine.shadow import Shadow
from stillframe.engine.termination import OnEnded, PendingAnswers, engine_ended
from stillframe.engine.worker import DeviceWorker
from stillframe.errors import Flaw, NotReady, RequestError
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock

PATIENCE_SHARE = 0.5  # of a robot's slack: where all are busy its frame then waits for a turn, and travels back
PATIENCE_TURNS = 2  # frames alone: the one that is being computed as patience runs out, and its own
WARM_UP_STEPS = 2  # the first pays for allocations, the second shows what a frame costs


class Engine:
    """Answers frames, waiting ones in batches; a session's one by one, in the order in which they came.

    Refreshes idle sessions in between.
    """

    def __init__(
        self,
        model: PolicyModel,
        *,
        reuse: ReuseSettings,
        queue_frames: int,
        clock: Clock,
        log: Logger,
        on_refresh: Callable[[SlackReport], None],
        decoding: DecodingSettings = DEFAULT_DECODING,
        batching: BatchingSettings = DEFAULT_BATCHING,
        graphs: GraphSettings = DEFAULT_GRAPHS,
        history: HistoryManager | None = None,
        history_info: HistoryInfo = NO_HISTORY,
        on_refused: Callable[[Flaw], None] = lambda _: None,
        on_ended: OnEnded = lambda _: None,
        source: str | None = None,
        report_patches: bool = False,
        observer: FrameObserver | None = None,
        shadow: Shadow | None = None,
    ):
        """Start the thread. Raises ConfigError.

        In it `on_refresh` is called with each idle refresh's report, `on_refused` with why an answer was no action,
        `on_ended` with what ends the thread, should that be anything but `close`.
        `history_info` says why answers look at no older frames, where there is no `history`; `source`: which of the
        hub's repositories the checkpoint is, and which commit; `report_patches`: whether a frame's report says which of
        its patches were reused. `observer` is told of sessions' frames. `shadow` answers some of them once more.
        """
        self._core = EngineCore.of(model, reuse, clock, decoding=decoding, history=history)
        self._core.cache.reports_patches = report_patches
        if observer is not None:
            self._core.reporter = FrameReporter(observer, log)
        info = replace(model.info, history=history.info if history else history_info, source=source)
        self.info: PolicyInfo = self._core.info(info)
        self._clock = clock
        self._log = log
        self._on_refresh = on_refresh
        self._shadow = shadow
        self._batches = BatchPolicy(batching)
        self._queue: FairQueue[FrameRequest | EndSession] = FairQueue(
            queue_frames, parallel=lambda key: isinstance(key, Stateless), patience_s=self._patience_s
        )
        self._worker = DeviceWorker(self._core, self._batches, log, on_refused)
        self._capture = CaptureConfig(graphs, batching.most, reuse.slot_text_tokens)
        self.pass_counts: PassCounts | None = None  # of a GPU, once it replays graphs
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._warm = False
        self._pending = PendingAnswers(on_ended)
        self._busy_since = (clock(), False)  # when the device's present work began; whether that is a batch
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Warm, not stopping, and not ended."""
        return self._warm and not self._queue.closed and self._pending.cause is None

    def warm_up(self) -> None:
        """Compute blank frames on the device's own thread until it is warm. Raises what computing them raises.

        A GPU's graphs are captured before, by the calling thread: the device's own has nothing to do yet.
        """
        core = self._core
        core.runner = capture_graphs_on_cuda(core.model, core.cache.slots.pool, self._capture, self._log)
        self.pass_counts = core.runner.counts
        observation = blank_observation(self.info)
        for _ in range(WARM_UP_STEPS):
            self._enqueue(observation, None, share="", max_age_s=float("inf")).result()
        self._warm = True

    @property
    def usage(self) -> KVUsage:
        """How full the KV pool is now."""
        return self._core.cache.usage

    @property
    def busy_s(self) -> float:
        """See domain.Policy. The time that a refresh which does not yield keeps a frame waiting counts as well."""
        since_s, computing = self._busy_since
        if not computing:
            oldest_s = self._oldest_s()
            if oldest_s is None:
                return 0.0
            since_s = max(since_s, oldest_s)
        return max(0.0, self._clock() - since_s)

    def submit(
        self, observation: Observation, max_age_ms: float, session: SessionRef | None = None, *, share: str = ""
    ) -> Future[Step]:
        """Queue one frame; see domain.Policy. A full queue answers Overloaded at once, a closed engine NotReady."""
        if self._pending.cause is not None:
            return _refused(engine_ended())
        if not (self._warm or self._queue.closed):
            return _refused(NotReady("not-ready", "the policy is warming up", retry_after_s=RETRY_AFTER_S))
        share = session.share if session else share
        return self._enqueue(observation, session, share=share, max_age_s=max_age_ms / 1e3)

    def forget(self, session_id: str) -> None:
        """Free what a session left; see domain.Policy."""
        self._queue.put_control(session_id, EndSession(session_id))

    def close(self) -> None:
        """Answer what is queued, then end the thread. Frames that come later are refused."""
        self._queue.close()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _enqueue(
        self, observation: Observation, session: SessionRef | None, share: str, max_age_s: float
    ) -> Future[Step]:
        now_s = self._clock()
        task = PrepareTask(self._core.model.prepare, observation)
        key = session.id if session else Stateless(share)
        slack_s = min(session.slack_ms / 1e3, max_age_s) if session else 0.0
        patient_until_s = now_s + PATIENCE_SHARE * slack_s if slack_s else -inf
        request = FrameRequest(observation, session, task, now_s, now_s + max_age_s, patient_until_s)
        try:
            displaced = self._queue.put(key, request, share)
        except RequestError as error:
            return _refused(error)
        task.begin(self._pool)
        self._pending.add(request.answer)
        # Not the request: what it holds would be kept as long as its answer.
        request.answer.add_done_callback(partial(self._answered, key, task))
        if isinstance(displaced, FrameRequest) and displaced.answer.set_running_or_notify_cancel():
            displaced.answer.set_exception(self._queue.overloaded())
        return request.answer

    def _answered(self, key: Key, task: PrepareTask, answer: Future[Step]) -> None:
        """An answer is given: if it was cancelled while it waited, remove its request from the queue."""
        task.cancel()
        if answer.cancelled() and self._queue.remove(
            key, lambda due: isinstance(due, FrameRequest) and due.answer is answer
        ):
            answer.set_running_or_notify_cancel()  # wakes a thread that waits() for it beside others

    def _run(self) -> None:
        """The thread. Whatever ends it but `close` ends the engine: no frame may wait for it in vain."""
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 (SystemExit in a callback ends a thread in silence)
            self._end(error)

    def _end(self, error: BaseException) -> None:
        """Log why, refuse new frames, and fail what waits."""
        with suppress(Exception):
            self._log.critical("the engine has ended: %s", type(error).__name__, exc_info=error)
        with suppress(Exception):
            self._queue.close()
        self._pending.fail_all(error)

    def _serve(self) -> None:
        """One batch, or one control item, after another until the queue is closed; idle refreshes in between."""
        while due := self._next():
            self._answer(
                [
                    request
                    for request in due
                    if isinstance(request, FrameRequest) and request.answer.set_running_or_notify_cancel()
                ]
            )
            for control in due:
                if isinstance(control, EndSession):
                    self._core.cache.end(control.session_id)
                    self._queue.forget(control.session_id)

    def _next(self) -> list[FrameRequest | EndSession]:
        """The next batch; until there is one, idle refreshes."""
        while not self._queue.has_work and self._work_idle():
            pass
        return self._queue.next(self._admits)

    def _work_idle(self) -> bool:
        """Refresh a session, or let the shadow answer a frame; return whether there was anything to do."""
        if self._worker.refresh(lambda: self._queue.has_work, self._report_refresh):
            return True
        return self._shadow is not None and self._shadow.compute(lambda: self._queue.has_work, self._waited_ms)

    def _patience_s(self, due: FrameRequest | EndSession) -> float:
        """For how long others may go before a frame, if its answer is to come before its robot runs out of actions."""
        if not isinstance(due, FrameRequest) or due.patient_until_s == -inf:
            return 0.0
        return due.patient_until_s - self._clock() - PATIENCE_TURNS * self._batches.time_s(1)

    def _admits(self, taken: Sequence[FrameRequest | EndSession], due: FrameRequest | EndSession) -> bool:
        """Whether a frame joins the batch rather than being computed after it."""
        return isinstance(due, FrameRequest) and self._batches.admits(
            len(taken), due.expires_s - self._clock(), shared=self._queue.shared
        )

    def _report_refresh(self, report: SlackReport) -> None:
        """Add how long a frame has waited that came in during the refresh."""
        self._on_refresh(replace(report, yield_ms=self._waited_ms()))

    def _waited_ms(self) -> float | None:
        """How long a frame has waited for its turn; None: none does."""
        oldest_s = self._oldest_s()
        return None if oldest_s is None else (self._clock() - oldest_s) * 1e3

    def _oldest_s(self) -> float | None:
        """Since when a frame waits for its turn."""
        waiting = (due.entered_s for due in self._queue.waiting if isinstance(due, FrameRequest))
        return min((entered_s for entered_s in waiting if entered_s is not None), default=None)

    def _answer(self, requests: Sequence[FrameRequest]) -> None:
        """Put steps or errors into the requests' answers."""
        self._busy_since = (self._clock(), bool(requests))
        answers = self._worker.answers(requests)
        self._busy_since = (self._clock(), False)
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Step):
                request.answer.set_result(answer)
            else:
                self._worker.close_error(answer)
                request.answer.set_exception(answer)
        if self._shadow is not None:
            self._shadow.add(requests, answers)
        self._worker.audit(self._report_refresh)


def _refused(error: RequestError) -> Future[Step]:
    """An answer that is an error from the start."""
    answer: Future[Step] = Future()
    answer.set_exception(error)
    return answer
