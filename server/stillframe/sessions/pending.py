"""One frame of a session and its answer: who waits for it, and how it ended.

Knows no session and no rule of admission. Not locked: the roster's lock guards every exchange.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from stillframe.domain import Step
from stillframe.errors import Conflict, NotReady, RequestError

DRAIN_WAIT_S = 10.0


@dataclass(frozen=True)
class Place:
    """What a frame says of its place; None: it does not say."""

    epoch: int | None = None
    seq: int | None = None
    key: str | None = None  # an Idempotency-Key: instead of a seq


@dataclass(frozen=True)
class Ticket:
    """One asker's claim to an answer. Cancelling the future is giving up.

    The future's callbacks run on any thread and under the roster's lock: they pass the news on and take no lock of
    their own that somebody holds while he asks the roster.
    """

    future: Future[Step]  # holds a Step or a RequestError; never left unsettled once the policy's own is settled
    epoch: int
    seq: int
    replayed: bool  # the answer is another frame's, of which this one was a repeat

    def give_up(self) -> None:
        """Wait no more: a frame that nobody else waits for is not computed, unless it already is."""
        self.future.cancel()


class Superseded(Conflict):
    """A newer frame came before this one's turn; `by` is its seq."""

    def __init__(self, by: int):
        super().__init__("superseded", f"Frame {by} came before this one's turn, and the newest frame wins.")
        self.by = by


@dataclass(eq=False)
class Exchange:
    """A frame as it was admitted, and its answer as soon as there is one. Keeps no error: those hold on to pictures."""

    epoch: int
    seq: int
    digest: bytes  # of what the client sent: an equal repeat has an equal one
    key: str | None = None
    connection: object | None = None  # the one that asked last
    step: Step | None = None
    superseded_by: int | None = None
    waiters: list[Future[Step]] = field(default_factory=list)
    computing: Future[Step] | None = None  # the policy's own, as long as it is not settled
    _withdrawal: RequestError | None = None

    @property
    def settled(self) -> bool:
        """Whether it has ended, however."""
        return self.computing is None

    @property
    def failed(self) -> bool:
        """Whether it ended without an answer that could be given again."""
        return self.settled and self.step is None and self.superseded_by is None

    def add_waiter(self, waiter: Future[Step]) -> None:
        """Answer this future too: now if the answer is known, else when it is. Not for a failed exchange."""
        if self.settled:
            _answer(waiter, Superseded(self.superseded_by) if self.superseded_by is not None else self.step)
        else:
            self.waiters.append(waiter)

    def withdraw(self, why: RequestError | None = None) -> bool:
        """Take the frame back from the policy; False if it is too late. Whoever waits is told why."""
        if self.computing is None:
            return False
        self._withdrawal = why
        return self.computing.cancel()  # runs the callback that settles this exchange, before it returns

    def settle(self) -> None:
        """Pass on what the policy's future has come to."""
        assert self.computing is not None  # noqa: S101 (a bug of ours: settled twice)
        ending = self._ending(self.computing)
        self.step = ending if isinstance(ending, Step) else None
        self.superseded_by = ending.by if isinstance(ending, Superseded) else None
        waiters, self.waiters = self.waiters, []
        self.computing = self.connection = self._withdrawal = None  # kept for a repeat, it holds on to nobody
        for waiter in waiters:
            _answer(waiter, ending)

    def _ending(self, computed: Future[Step]) -> Step | BaseException:
        if computed.cancelled():
            detail = "The daemon dropped this frame as it stopped."
            return self._withdrawal or NotReady("draining", detail, retry_after_s=DRAIN_WAIT_S)
        return computed.exception() or computed.result()


def _answer(waiter: Future[Step], ending: Step | BaseException | None) -> None:
    """Settle a future, unless its holder gave up a moment ago."""
    if not waiter.set_running_or_notify_cancel():
        return
    if isinstance(ending, BaseException):
        waiter.set_exception(ending)
    else:
        assert ending is not None  # noqa: S101 (a bug of ours: a failed exchange has no answer)
        waiter.set_result(ending)


class Replies:
    """Exchanges by seq, at most `limit` of them and those still open."""

    def __init__(self, limit: int):
        self._limit = limit
        self._by_seq: dict[int, Exchange] = {}  # in the order in which they were first asked for

    def __len__(self) -> int:
        return len(self._by_seq)

    def find(self, place: Place) -> Exchange | None:
        """The exchange of which a frame at this place is a repeat: by its seq, or else by its key."""
        if place.seq is not None:
            return self._by_seq.get(place.seq)
        if place.key is None:
            return None
        return next((exchange for exchange in self._by_seq.values() if exchange.key == place.key), None)

    def keep(self, exchange: Exchange) -> None:
        """Keep one that was begun, or begun again."""
        self._by_seq[exchange.seq] = exchange
        self.trim()

    def trim(self) -> None:
        """Let go of the oldest that have ended, beyond the limit."""
        surplus = len(self._by_seq) - self._limit
        for exchange in list(self._by_seq.values()) if surplus > 0 else []:
            if surplus > 0 and exchange.settled:
                del self._by_seq[exchange.seq]
                surplus -= 1

    def clear(self) -> None:
        """Begin anew."""
        self._by_seq.clear()
