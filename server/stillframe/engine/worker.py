"""DeviceWorker: answers batches of requests and refreshes idle sessions, whatever fails while it does.

Knows deadlines, and which failure is answered, logged or costs a keyframe; no queue and no thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from logging import Logger

from stillframe.domain import SlackReport, Step
from stillframe.engine.audit import run_audit
from stillframe.engine.batch_policy import BatchPolicy
from stillframe.engine.core import EngineCore
from stillframe.engine.device import check_device, clear_tracebacks, to_request_error
from stillframe.engine.preemption import ShouldYield
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.errors import DeadlineExceeded, Flaw, Internal, RequestError
from stillframe.reuse.kv import KVCorrupted


class DeviceWorker:
    """One engine core. For the engine's thread, which DeviceLost ends."""

    def __init__(self, core: EngineCore, batches: BatchPolicy, log: Logger, on_refused: Callable[[Flaw], None]):
        self._core = core
        self._batches = batches
        self._log = log
        self._on_refused = on_refused

    def answers(self, requests: Sequence[FrameRequest]) -> list[Step | RequestError]:
        """Compute frames, unless they are too old; one frame's failure is never another's."""
        now_s = self._core.clock()
        unexpired = [request for request in requests if now_s <= request.expires_s]
        try:
            answers = iter(self._stepped(unexpired, now_s))
        except Exception as error:  # noqa: BLE001 (the clients are answered; what is ours to fix is logged)
            check_device(error, self._core.model.device)
            answers = iter(
                [self._failed(request, error) for request in unexpired]
                if len(unexpired) == 1
                else self._one_by_one(unexpired, error)
            )
        return [next(answers) if request in unexpired else _too_old(request, now_s) for request in requests]

    def close_error(self, error: RequestError) -> None:
        """Before an error is answered: log and count it where the policy gave no action, and free what it holds."""
        self._count_refused(error)
        clear_tracebacks(error, self._core.model.device)

    def refresh(self, should_yield: ShouldYield, report: Callable[[SlackReport], None]) -> bool:
        """Refresh one idle session; return whether there was one. Never raises."""
        session = self._core.cache.next_refresh
        if session is None:
            return False
        try:
            measured = refresh_idle_session(self._core, session, should_yield)
            if measured is not None:
                session.beside_ms += measured.duration_ms
                report(measured)
                if self._core.reporter is not None:
                    self._core.reporter.refreshed(session.ref, measured)
        except KVCorrupted as error:
            self._log.error("session reset after KV corruption: %s", error)
        except Internal as error:
            self._count_refused(error)
        except Exception as error:  # noqa: BLE001 (logged; no frame waits for a refresh)
            self._log.exception("an idle refresh failed")
            check_device(error, self._core.model.device)
            session.pending = None
            clear_tracebacks(error, self._core.model.device)
        return True

    def audit(self, report: Callable[[SlackReport], None]) -> None:
        """Audit the last batch's keyframe, if one of them is to be: once they are answered. Never raises."""
        audit = self._core.cache.take_audit()
        if audit is None:
            return
        try:
            measured = run_audit(self._core, audit)
            audit.session.beside_ms += measured.duration_ms
            report(measured)
        except Internal as error:
            self._count_refused(error)
        except Exception as error:  # noqa: BLE001 (logged; its frame is answered)
            self._log.exception("an audit failed")
            check_device(error, self._core.model.device)
            clear_tracebacks(error, self._core.model.device)

    def _stepped(self, requests: Sequence[FrameRequest], now_s: float) -> list[Step | RequestError]:
        answers = step(self._core, requests) if requests else []
        if requests:
            took_s = self._core.clock() - now_s
            self._batches.record(len(requests), took_s)
            self._core.scheduler.audits.earn(took_s)
        return answers

    def _one_by_one(self, requests: Sequence[FrameRequest], error: Exception) -> list[Step | RequestError]:
        """A batch failed, and which of its frames is to blame is not known: compute each again, whole and alone."""
        self._log.warning("%d frames failed side by side, and are computed one by one: %s", len(requests), error)
        for request in requests:
            self._invalidate(request)
        clear_tracebacks(error, self._core.model.device)
        return [answer for request in requests for answer in self.answers([request])]

    def _failed(self, request: FrameRequest, error: Exception) -> RequestError:
        """The answer to the client. An unexpected error is logged, and costs the session a keyframe."""
        if not isinstance(error, RequestError):
            self._log.exception("a frame failed")
            self._invalidate(request)
        clear_tracebacks(error, self._core.model.device)
        return to_request_error(error)

    def _invalidate(self, request: FrameRequest) -> None:
        if request.session is not None:
            self._core.cache.invalidate(request.session)

    def _count_refused(self, error: RequestError) -> None:
        """Log and count an answer that is no action."""
        if isinstance(error, Internal) and error.flaw is not None:
            self._log.error("what the policy said is no action (%s): %s", error.flaw, error)
            with suppress(Exception):  # a failing counter is no reason to leave a frame unanswered
                self._on_refused(error.flaw)


def _too_old(request: FrameRequest, now_s: float) -> RequestError:
    waited_ms = request.queued_ms(now_s)
    return DeadlineExceeded("deadline-exceeded", f"The frame waited {waited_ms:.0f} ms, past its max_age_ms.")
