"""Plays action chunks at the robot's rate, and requests the next chunk before the current one runs out.

Knows no connection and no robot: it is handed a call that answers with a chunk. A fault stops it until a person, or a
program that looked, calls `restart`: a network that comes back does not move the arm by itself.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Deque, Iterator, Optional, Tuple, Union

import numpy as np

from stillframe_client.arguments import seconds
from stillframe_client.chunk_plan import ChunkPlan, check_blend, due_index
from stillframe_client.errors import (
    BadReply,
    DeadlineExceeded,
    NotReady,
    Overloaded,
    PolicyError,
    StaleAnswer,
    Starved,
    Superseded,
    TimedOut,
    TooMany,
    Unreachable,
)
from stillframe_client.rtc import DelaySteps, Rtc

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from stillframe_client.replies import ActionReply

# While actions are left these are met by asking again; whatever else goes wrong is a fault at once.
MAY_PASS = (TimedOut, Unreachable, NotReady, Overloaded, TooMany, DeadlineExceeded, Superseded)
LEAVING_S = 1.0
TIMED = 8  # answers whose times count
ROUNDING = 1e-6  # of a step: times of so many steps are no step more


@dataclass(eq=False)
class _Chunk:
    """A chunk's schedule."""

    frame_s: float  # when its frame was requested
    step: int  # actions played by then
    begin_s: Optional[float] = None  # when its first action is due; None: at once, the robot waits for it
    shape: Tuple[int, ...] = ()  # of its actions: horizon, action_dim
    seq: Optional[int] = None  # its frame, as the daemon counts


class ChunkPlayer:
    """Gives one action per step of the robot. `next` belongs to one thread; the asking is done in another.

    `ask` takes a picture, asks and returns the reply, such as `lambda: policy.act_with_report(camera(), "pick it up")`.
    It is called again once `replan_every` actions of a chunk are played, such as `policy.info().execute`; None: half
    of them, sooner where they would grow too old, or would run out before an answer comes as slowly as the slowest of
    the last ones did. (The first answer to come is not timed: the policy may have been cold.)

    A chunk's first action is due when its frame is taken, each later one 1 / `hz` s after the last. A chunk that comes
    late goes on where the robot is: as many of its actions are skipped as were played since its frame, or as were due
    by then. `blend` says what becomes of steps of which older chunks spoke too: see ChunkPlan.

    With `rtc` (real-time chunking) the policy itself makes the next chunk go on with this one, where `info().rtc` says
    that it can. `ask` then takes what the frame has to say, such as
    `lambda rtc: policy.act_with_report(camera(), "pick it up", rtc=rtc)`. The delay is as many steps as were played at
    most while one of the last chunks was awaited (a quarter of a chunk, until one was); the next chunk is asked for
    before more are left than that. Steps are counted: none is skipped because a clock says so.

    Faults: no action left (Starved, or what kept the next chunk from coming), a frame older than `max_age_s`
    (StaleAnswer), an action that is not finite (BadReply), and any PolicyError that waiting does not mend. Then `next`
    raises, every time, until `restart`.
    """

    def __init__(
        self,
        ask: Union[Callable[[], ActionReply], Callable[[Rtc], ActionReply]],
        hz: float,
        *,
        replan_every: Optional[int] = None,
        max_age_s: float = 2.0,
        blend: str = "none",
        rtc: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        if rtc and blend != "none":
            raise ValueError(f"blend is {blend!r} and rtc is True; the policy blends by itself: choose one of the two.")
        self._ask: Callable[..., ActionReply] = ask
        self._rtc = rtc
        self._delay = DelaySteps()
        self._step_s = 1.0 / seconds("hz", hz)
        self._max_age_s = seconds("max_age_s", max_age_s)
        if replan_every is not None and replan_every < 1:
            raise ValueError(f"replan_every is {replan_every!r}; expected at least one step, or None.")
        self._replan_every = replan_every
        self._blend = check_blend(blend)
        self._clock = clock
        self._changed = threading.Condition()  # guards what follows
        self._thread: Optional[threading.Thread] = None
        self._run = 0  # counts restarts: a chunk requested before one is not played after it
        self._wanted = False  # a chunk is to be requested, or is being
        self._chunk: Optional[_Chunk] = None
        self._plan = ChunkPlan(blend)
        self._answered = False  # a chunk has come
        self._took_s: Deque[float] = deque(maxlen=TIMED)  # the answers after that
        self._steps = 0  # actions played
        self._trouble: Optional[Exception] = None  # why the last request for a chunk failed
        self._fault: Optional[Exception] = None
        self._closed = False

    @property
    def fault(self) -> Optional[Exception]:
        """What stopped it; None while it plays."""
        with self._changed:
            return self._fault

    @property
    def latency_s(self) -> Optional[float]:
        """How long the slowest of the last answers took, the first to come aside; None: there is no other yet."""
        with self._changed:
            return max(self._took_s, default=None)

    @property
    def delay_steps(self) -> Optional[int]:
        """With rtc: steps that are expected to be played until the next chunk comes; None before the first chunk."""
        with self._changed:
            return self._delay.expected(self._chunk.shape[0]) if self._rtc and self._chunk is not None else None

    @property
    def slack_s(self) -> float:
        """For how long there are actions left to play."""
        with self._changed:
            return self._plan.left * self._step_s

    def restart(self) -> None:
        """Play again from a new frame: clear the fault and all actions."""
        with self._changed:
            if self._closed:
                raise _closed()
            self._run += 1
            self._chunk = self._trouble = self._fault = None
            self._plan = ChunkPlan(self._blend)
            self._want()

    def next(self) -> NDArray[np.float64]:
        """Return the action of this step, [action_dim]; the first waits for the first chunk. Raises the fault."""
        with self._changed:
            if self._run == 0:
                self.restart()
            if not self._changed.wait_for(self._can_tell, self._max_age_s):
                self._fault = Starved(f"No chunk came within {self._max_age_s} s: is the policy warm and that fast?")
            action = self._due(self._clock()) if self._fault is None else None
            if action is None:
                assert self._fault is not None  # noqa: S101 (one of the two)
                raise self._fault.with_traceback(None)
            return action

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        """Give an action every 1 / hz s, until it is closed or raises the fault."""
        due_s = self._clock()
        while not self._closed:
            yield self.next()
            due_s = max(due_s + self._step_s, self._clock())
            with self._changed:
                self._changed.wait_for(lambda: self._closed, max(0.0, due_s - self._clock()))

    def close(self) -> None:
        """Stop. A request in progress ends by its own timeout."""
        with self._changed:
            self._closed = True
            self._fault = self._fault or _closed()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(LEAVING_S)

    def __enter__(self) -> ChunkPlayer:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()

    def _can_tell(self) -> bool:
        return self._fault is not None or self._chunk is not None

    def _due(self, now_s: float) -> Optional[NDArray[np.float64]]:
        """The action of this step; None, and a fault, where there is none."""
        chunk = self._chunk
        assert chunk is not None  # noqa: S101 (waited for)
        age_s = now_s - chunk.frame_s
        if age_s > self._max_age_s:
            self._fault = StaleAnswer(
                f"The frame behind this action is {age_s:.2f} s old; at most {self._max_age_s} s."
            )
            return None
        self._plan.skip_to(self._index(chunk, now_s))
        action = self._plan.next()
        if action is None:
            detail = f"The chunk of {chunk.shape[0]} actions ran out {age_s:.2f} s after its frame; no other came."
            self._fault = self._trouble or Starved(detail)
            return None
        self._steps += 1
        if self._plan.index >= self._replan_after(chunk.shape[0]):
            self._want()
        return action

    def _index(self, chunk: _Chunk, now_s: float) -> int:
        """Index of the action that is due: by steps played since its frame, or by the clock where that is more.

        The clock is given one step of grace, so that a step that comes a little late skips nothing.
        """
        if chunk.begin_s is None:
            chunk.begin_s, chunk.step = now_s, self._steps
        played = self._steps - chunk.step
        return played if self._rtc else due_index(played, now_s - chunk.begin_s, self._step_s, grace=1)

    def _replan_after(self, horizon: int) -> int:
        if self._rtc:  # d <= s <= H - d: what is left at s lasts until the next chunk comes
            wanted = horizon // 2 if self._replan_every is None else self._replan_every
            return max(1, min(wanted, horizon - self._delay.expected(horizon)))
        if self._replan_every is not None:
            return min(self._replan_every, horizon)
        slowest = math.ceil(max(self._took_s, default=0.0) / self._step_s - ROUNDING)
        return max(1, min(horizon // 2, int(self._max_age_s / self._step_s / 2), horizon - 1 - slowest))

    def _want(self) -> None:
        """Request a chunk, unless a request is in progress."""
        if not self._closed:
            self._wanted = True
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stillframe-chunks", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Request chunks, one at a time, on a thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                run, chunk = self._run, _Chunk(self._clock(), self._steps)
                asked = (self._held(),) if self._rtc else ()
            actions = np.empty((0, 0))
            trouble: Optional[Exception]
            try:
                reply = self._ask(*asked)
                actions, chunk.seq = reply.actions, reply.session.seq if reply.session is not None else None
                trouble = _not_actions(actions) or (_not_told(reply) if self._rtc else None)
            except Exception as error:  # noqa: BLE001 -- the caller's own code too: `next` raises it
                trouble = error
            with self._changed:
                if run == self._run:
                    self._arrived(chunk, actions, trouble)

    def _held(self) -> Rtc:
        """What the next frame says: the chunk that is played, and where. Nothing where none is."""
        if self._chunk is None:
            return Rtc(delay_steps=0, executed_steps=0, horizon=0)
        delay = self._delay.expected(self._chunk.shape[0])
        return Rtc(delay, self._plan.index, chunk_seq=self._chunk.seq)

    def _arrived(self, chunk: _Chunk, actions: NDArray[np.float64], trouble: Optional[Exception]) -> None:
        """Play the new chunk from the next step on, or note why there is none."""
        self._wanted = False
        now_s = self._clock()
        if trouble is None:
            trouble = self._timed(now_s - chunk.frame_s) or self._other_kind(actions)
        if trouble is None:
            chunk.shape = actions.shape
            self._take(chunk, actions, now_s)
            self._trouble = None
        elif self._chunk is None or not isinstance(trouble, MAY_PASS):
            self._fault = self._fault or trouble
        else:
            self._trouble = trouble
        self._changed.notify_all()

    def _timed(self, took_s: float) -> Optional[PolicyError]:
        """Note how long an answer took; say so where that is too long."""
        if self._answered:
            self._took_s.append(took_s)
        self._answered = True
        if took_s > self._max_age_s:
            return StaleAnswer(f"The answer came {took_s:.2f} s after its frame; at most {self._max_age_s} s.")
        return None

    def _other_kind(self, actions: NDArray[np.float64]) -> Optional[PolicyError]:
        """What keeps a chunk from going on where the last one is, if anything does."""
        if self._chunk is None or self._chunk.shape[1:] == actions.shape[1:]:
            return None
        return BadReply(f"An action has {actions.shape[1]} numbers; those before it had {self._chunk.shape[1]}.")

    def _take(self, chunk: _Chunk, actions: NDArray[np.float64], now_s: float) -> None:
        """Go on with the new chunk in the place of the old one's action that would be next."""
        due = 0
        if self._chunk is not None:
            self._plan.skip_to(self._index(self._chunk, now_s))
            chunk.begin_s = chunk.frame_s
            due = self._index(chunk, now_s)
            if self._rtc:
                self._delay.record(due)
        self._plan.take(actions, due)
        self._chunk = chunk


def _not_actions(actions: NDArray[np.float64]) -> Optional[PolicyError]:
    """What is wrong with a chunk, if anything is."""
    if actions.ndim != 2 or not actions.size or not np.isfinite(actions).all():
        return BadReply(f"The answer holds actions of shape {actions.shape}; expected finite (horizon, action_dim).")
    return None


def _not_told(reply: ActionReply) -> Optional[PolicyError]:
    """What is wrong with a reply that does not say what its chunk was held to."""
    if reply.rtc is not None:
        return None
    return BadReply(
        "The answer does not say what its chunk was held to: the daemon is older than rtc, or `ask` left rtc out. Pass "
        "it on, as in act_with_report(..., rtc=rtc), or play without rtc."
    )


def _closed() -> PolicyError:
    return PolicyError("This player is closed; make a new one.")
