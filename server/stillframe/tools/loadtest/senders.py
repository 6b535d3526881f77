"""The robots: one that keeps its period whatever the daemon does, and one that floods.

Knows a wire and a clock; not what is sent.
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


@dataclass
class SenderStats:
    """One robot's."""

    due: int = 0  # frames whose time came
    skipped: int = 0  # of these: not sent, for too many were under way
    sent: int = 0
    superseded: int = 0
    unanswered: int = 0  # sent, and nothing came
    problems: Counter[str] = field(default_factory=Counter)  # by code
    latencies_s: list[float] = field(default_factory=list)  # of those answered: from when the frame was due
    lags_s: list[float] = field(default_factory=list)  # by how much the sender itself was late
    reuse: list[float] = field(default_factory=list)
    ended: str = ""  # why it ended before its time

    @property
    def answered(self) -> int:
        """Frames with an action."""
        return len(self.latencies_s)

    def count(self, ending: FrameResult, latency_s: float) -> None:
        """One frame has ended."""
        if ending.outcome is FrameOutcome.ANSWERED:
            self.latencies_s.append(latency_s)
            if ending.reuse_ratio is not None:
                self.reuse.append(ending.reuse_ratio)
        elif ending.outcome is FrameOutcome.SUPERSEDED:
            self.superseded += 1
        else:
            self.problems[ending.code] += 1

    def within(self, deadline_s: float) -> int:
        """Frames whose action came in time."""
        return sum(latency_s <= deadline_s for latency_s in self.latencies_s)

    def check(self) -> None:
        """Every frame is counted once."""
        ended = self.answered + self.superseded + self.problems.total() + self.unanswered
        assert self.due == self.skipped + self.sent, self  # noqa: S101 (a bug of ours)
        assert self.sent == ended, self  # noqa: S101 (a bug of ours)


MAX_IN_FLIGHT = 2  # of a robot in lock-step: an answer that is late by over a period costs it a frame
FLOOD_SETTLES_S = 0.5

TransportFactory = Callable[[Robot, ReplyHandler], Transport]


class Sender:
    """Sends frames over a wire of its own and hears what becomes of them."""

    def __init__(self, robot: Robot, new_wire: TransportFactory, clock: Clock):
        self.tally = SenderStats()
        self._wire = new_wire(robot, self)
        self._clock = clock
        self._under_way: dict[int, float] = {}  # seq -> when the frame was due
        self._settled = asyncio.Event()
        self._settled.set()

    async def open(self) -> None:
        """Connect. Raises PolicyError."""
        await self._wire.open()

    async def run(self, began_s: float) -> None:
        """Send the frames."""
        raise NotImplementedError

    async def settle(self, within_s: float) -> None:
        """Wait for the answers that are still to come; what does not come is counted so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()
        self.tally.unanswered += len(self._under_way)
        self._under_way.clear()

    async def close(self) -> None:
        """Leave."""
        await self._wire.close()

    def ended(self, ending: FrameResult) -> None:
        """See wires.base.Ear. What ended before, or was never sent, is not counted."""
        due_s = self._under_way.pop(ending.seq, None)
        if due_s is not None:
            self.tally.count(ending, self._clock() - due_s)
        if not self._under_way:
            self._settled.set()

    def dismissed(self, why: str) -> None:
        """See wires.base.Ear. Nothing more is sent; answers may still come."""
        self.tally.ended = self.tally.ended or why

    async def _send(self, due_s: float) -> None:
        seq = self.tally.sent
        self.tally.sent += 1
        self.tally.lags_s.append(self._clock() - due_s)
        self._under_way[seq] = due_s
        self._settled.clear()
        await self._wire.send(seq)


class PacedRobot(Sender):
    """Its frames are due by its own clock, never by the answers: a slow daemon makes them late, not fewer."""

    def __init__(self, robot: Robot, new_wire: TransportFactory, clock: Clock, load: Load, offset_s: float):
        super().__init__(robot, new_wire, clock)
        self._load = load
        self._offset_s = offset_s
        self._most = load.frames if load.realtime else MAX_IN_FLIGHT

    async def run(self, began_s: float) -> None:
        """Send every frame when it is due, or as soon after as the wire takes it."""
        for frame in range(self._load.frames):
            due_s = began_s + self._offset_s + frame * self._load.period_s
            await asyncio.sleep(due_s - self._clock())
            if self.tally.ended:
                return
            self.tally.due += 1
            if len(self._under_way) >= self._most:
                self.tally.skipped += 1
            else:
                await self._send(due_s)

    async def settle(self, within_s: float) -> None:
        """See Sender. Frames that it never came to send are misses too."""
        if not self.tally.ended:
            self.tally.skipped += self._load.frames - self.tally.due
            self.tally.due = self._load.frames
        await super().settle(within_s)


class Flooder(Sender):
    """Sends as fast as the wire takes it, and waits for nothing."""

    def __init__(self, robot: Robot, new_wire: TransportFactory, clock: Clock, load: Load):
        super().__init__(robot, new_wire, clock)
        self._load = load

    async def run(self, began_s: float) -> None:
        """Until the robots have sent their last frame."""
        ends_s = began_s + self._load.seconds
        while not self.tally.ended and (now_s := self._clock()) < ends_s:
            self.tally.due += 1
            await self._send(now_s)
            await asyncio.sleep(0)  # a wire with room never waits; the others want their turn

    async def settle(self, within_s: float) -> None:
        """See Sender. A backlog that the daemon takes its time to refuse is not waited for."""
        await super().settle(min(within_s, FLOOD_SETTLES_S))
