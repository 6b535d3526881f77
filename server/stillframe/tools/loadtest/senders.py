"""Senders of frames: one that keeps its period whatever the daemon does, and one that floods.

Knows a transport and a clock; not what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from stillframe.stopwatch import Clock
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.transports.base import FrameOutcome, FrameResult, ReplyHandler, Robot, Transport

MAX_IN_FLIGHT = 2  # frames of a lock-step robot: an answer more than a period late costs it a frame
FLOOD_SETTLES_S = 0.5

TransportFactory = Callable[[Robot, ReplyHandler], Transport]


@dataclass
class SenderStats:
    """Counts and times of one sender's frames."""

    due: int = 0  # frames that were due
    skipped: int = 0  # due but not sent: too many in flight
    sent: int = 0
    superseded: int = 0
    unanswered: int = 0  # sent, no answer
    problems: Counter[str] = field(default_factory=Counter)  # by code
    latencies_s: list[float] = field(default_factory=list)  # of answered frames, from when they were due
    lags_s: list[float] = field(default_factory=list)  # how late the sender itself was
    reuse: list[float] = field(default_factory=list)
    ended: str = ""  # why it ended early

    @property
    def answered(self) -> int:
        """Frames answered with an action."""
        return len(self.latencies_s)

    def count(self, result: FrameResult, latency_s: float) -> None:
        """Count the result of one frame."""
        if result.outcome is FrameOutcome.ANSWERED:
            self.latencies_s.append(latency_s)
            if result.reuse_ratio is not None:
                self.reuse.append(result.reuse_ratio)
        elif result.outcome is FrameOutcome.SUPERSEDED:
            self.superseded += 1
        else:
            self.problems[result.code] += 1

    def within(self, deadline_s: float) -> int:
        """Frames answered within the deadline."""
        return sum(latency_s <= deadline_s for latency_s in self.latencies_s)

    def check(self) -> None:
        """Check that every frame is counted exactly once."""
        ended = self.answered + self.superseded + self.problems.total() + self.unanswered
        assert self.due == self.skipped + self.sent, self  # noqa: S101 (a bug of ours)
        assert self.sent == ended, self  # noqa: S101 (a bug of ours)


class Sender:
    """Sends frames over a transport of its own and counts their results. Implements ReplyHandler."""

    def __init__(self, robot: Robot, new_transport: TransportFactory, clock: Clock):
        self.tally = SenderStats()
        self._transport = new_transport(robot, self)
        self._clock = clock
        self._in_flight: dict[int, float] = {}  # seq -> when the frame was due
        self._settled = asyncio.Event()
        self._settled.set()

    async def open(self) -> None:
        """Connect. Raises PolicyError."""
        await self._transport.open()

    async def run(self, began_s: float) -> None:
        """Send the frames."""
        raise NotImplementedError

    async def settle(self, within_s: float) -> None:
        """Wait for outstanding answers; count the missing ones as unanswered."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()
        self.tally.unanswered += len(self._in_flight)
        self._in_flight.clear()

    async def close(self) -> None:
        """Close the transport."""
        await self._transport.close()

    def on_result(self, result: FrameResult) -> None:
        """See ReplyHandler. A frame that was not sent, or is counted already, is ignored."""
        due_s = self._in_flight.pop(result.seq, None)
        if due_s is not None:
            self.tally.count(result, self._clock() - due_s)
        if not self._in_flight:
            self._settled.set()

    def on_closed(self, why: str) -> None:
        """See ReplyHandler. No more is sent; answers may still come."""
        self.tally.ended = self.tally.ended or why

    async def _send(self, due_s: float) -> None:
        seq = self.tally.sent
        self.tally.sent += 1
        self.tally.lags_s.append(self._clock() - due_s)
        self._in_flight[seq] = due_s
        self._settled.clear()
        await self._transport.send(seq)


class PacedRobot(Sender):
    """Sends on its own schedule, independent of answers: a slow daemon makes frames late, not fewer."""

    def __init__(self, robot: Robot, new_transport: TransportFactory, clock: Clock, load: Load, offset_s: float):
        super().__init__(robot, new_transport, clock)
        self._load = load
        self._offset_s = offset_s
        self._most = load.frames if load.realtime else MAX_IN_FLIGHT

    async def run(self, began_s: float) -> None:
        """Send every frame when it is due, or as soon after as the transport accepts it."""
        for frame in range(self._load.frames):
            due_s = began_s + self._offset_s + frame * self._load.period_s
            await asyncio.sleep(due_s - self._clock())
            if self.tally.ended:
                return
            self.tally.due += 1
            if len(self._in_flight) >= self._most:
                self.tally.skipped += 1
            else:
                await self._send(due_s)

    async def settle(self, within_s: float) -> None:
        """See Sender. Frames that it had no time to send are misses too."""
        if not self.tally.ended:
            self.tally.skipped += self._load.frames - self.tally.due
            self.tally.due = self._load.frames
        await super().settle(within_s)


class Flooder(Sender):
    """Sends as fast as the transport accepts frames, without waiting for answers."""

    def __init__(self, robot: Robot, new_transport: TransportFactory, clock: Clock, load: Load):
        super().__init__(robot, new_transport, clock)
        self._load = load

    async def run(self, began_s: float) -> None:
        """Send until the robots have sent their last frame."""
        ends_s = began_s + self._load.seconds
        while not self.tally.ended and (now_s := self._clock()) < ends_s:
            self.tally.due += 1
            await self._send(now_s)
            await asyncio.sleep(0)  # a transport with room never waits: let other tasks run

    async def settle(self, within_s: float) -> None:
        """See Sender. Does not wait for a backlog that the daemon refuses slowly."""
        await super().settle(min(within_s, FLOOD_SETTLES_S))
