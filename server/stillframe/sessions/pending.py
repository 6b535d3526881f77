"""A frame on its way through a session: as submitted, pending, answered; and the cache of recent replies.

Knows no session and no rule of submission. Not locked: the registry's lock guards all of it.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from stillframe.domain import Observation, ReuseMode, RtcRequest, Step
from stillframe.errors import Conflict, NotReady, RequestError

DRAIN_WAIT_S = 10.0


@dataclass(frozen=True)
class FramePosition:
    """Which frame of the session the client says it is; None: it does not say."""

    epoch: int | None = None
    seq: int | None = None
    key: str | None = None  # an Idempotency-Key: instead of a seq


@dataclass(frozen=True)
class FrameSubmission:
    """A frame as a client submits it."""

    observation: Observation
    max_age_ms: float
    position: FramePosition
    digest: bytes  # of what the client sent: an equal repeat has an equal one
    mode: ReuseMode | None = None  # None: the session's
    connection: object | None = None  # that it came through; None: without one
    slack_ms: float = 0.0  # for how long its robot has actions left
    rtc: RtcRequest | None = None  # what its chunk is to be held to


@dataclass(frozen=True)
class Ticket:
    """One caller's claim to an answer; cancelling the future gives it up.

    The future's callbacks run on any thread under the registry's lock: they must not take a lock that is held around
    a call of the registry.
    """

    future: Future[Step]  # a Step or a RequestError; settled whenever the policy's own future is
    epoch: int
    seq: int
    replayed: bool  # this frame repeats an earlier one and shares its answer

    def give_up(self) -> None:
        """Stop waiting: a frame without other waiters is withdrawn, unless it is being computed."""
        self.future.cancel()


class Superseded(Conflict):
    """A newer frame came before this one's turn; `by` is its seq."""

    def __init__(self, by: int):
        super().__init__("superseded", f"Frame {by} came before this one's turn, and the newest frame wins.")
        self.by = by


@dataclass(eq=False)
class PendingFrame:
    """An accepted frame and, once there is one, its answer. Keeps no error: tracebacks keep pictures alive."""

    epoch: int
    seq: int
    digest: bytes  # of what the client sent: an equal repeat has an equal one
    key: str | None = None
    connection: object | None = None  # the one of the last submission
    step: Step | None = None
    superseded_by: int | None = None
    waiters: list[Future[Step]] = field(default_factory=list)
    computing: Future[Step] | None = None  # the policy's own, as long as it is not settled
    _withdrawal: RequestError | None = None

    @property
    def settled(self) -> bool:
        """Whether it is answered, failed or withdrawn."""
        return self.computing is None

    @property
    def failed(self) -> bool:
        """Whether it ended without an answer that could be given again."""
        return self.settled and self.step is None and self.superseded_by is None

    def add_waiter(self, waiter: Future[Step]) -> None:
        """Answer this future too: now if the answer is known, else when it is. Not for a failed frame."""
        if self.settled:
            _answer(waiter, Superseded(self.superseded_by) if self.superseded_by is not None else self.step)
        else:
            self.waiters.append(waiter)

    def withdraw(self, why: RequestError | None = None) -> bool:
        """Cancel the frame; False if it is being computed or done. Waiters get `why`."""
        if self.computing is None:
            return False
        self._withdrawal = why
        return self.computing.cancel()  # runs the callback that settles this frame, before it returns

    def settle(self) -> None:
        """Deliver the policy's result to all waiters."""
        assert self.computing is not None  # noqa: S101 (a bug of ours: settled twice)
        ending = self._ending(self.computing)
        self.step = ending if isinstance(ending, Step) else None
        self.superseded_by = ending.by if isinstance(ending, Superseded) else None
        waiters, self.waiters = self.waiters, []
        self.computing = self.connection = self._withdrawal = None  # what the cache keeps holds no connection
        for waiter in waiters:
            _answer(waiter, ending)

    def _ending(self, computed: Future[Step]) -> Step | BaseException:
        if computed.cancelled():
            detail = "The daemon dropped this frame as it stopped."
            return self._withdrawal or NotReady("draining", detail, retry_after_s=DRAIN_WAIT_S)
        return computed.exception() or computed.result()


def _answer(waiter: Future[Step], ending: Step | BaseException | None) -> None:
    """Settle a future, unless it was cancelled a moment ago."""
    if not waiter.set_running_or_notify_cancel():
        return
    if isinstance(ending, BaseException):
        waiter.set_exception(ending)
    else:
        assert ending is not None  # noqa: S101 (a bug of ours: a failed frame has no answer)
        waiter.set_result(ending)


class ReplyCache:
    """The last frames by seq: at most `limit`, and those still in flight."""

    def __init__(self, limit: int):
        self._limit = limit
        self._by_seq: dict[int, PendingFrame] = {}  # in the order of first submission

    def __len__(self) -> int:
        return len(self._by_seq)

    def find(self, position: FramePosition) -> PendingFrame | None:
        """The frame that one at this position repeats: by seq, else by idempotency key."""
        if position.seq is not None:
            return self._by_seq.get(position.seq)
        if position.key is None:
            return None
        return next((pending for pending in self._by_seq.values() if pending.key == position.key), None)

    def keep(self, pending: PendingFrame) -> None:
        """Keep a frame that was queued, or queued again."""
        self._by_seq[pending.seq] = pending
        self.trim()

    def trim(self) -> None:
        """Drop the oldest settled ones beyond the limit."""
        surplus = len(self._by_seq) - self._limit
        for pending in list(self._by_seq.values()) if surplus > 0 else []:
            if surplus > 0 and pending.settled:
                del self._by_seq[pending.seq]
                surplus -= 1

    def clear(self) -> None:
        """Drop all of them."""
        self._by_seq.clear()
