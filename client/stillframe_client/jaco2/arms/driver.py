"""How the arm's driver and firmware treat commands: a queue of 10 ms points, a stop flag, a slow report.

Knows no transport and no body: what moves is handed in (kinematic.py, the simulated world). The sim arm, the simulated
world and the tests' fake drivers share it. Source: kinova-ros (velocity messages become points of a FIFO of 2000; the
arm rests when it is empty; in/stop erases it and lets nothing in until in/start).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Deque, Optional, Protocol

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.domain import ArmState

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ToolPose, Twist

LONGEST = 2000  # points
REPORT_S = 0.1


class Body(Protocol):
    """What is moved."""

    def move(self, twist: Optional[Twist]) -> None:
        """Move for 10 ms: by the twist, or not at all."""
        ...

    def pose(self) -> ToolPose:
        """Where the tool is now."""
        ...

    def closure(self) -> float:
        """How far the hand is closed, 0 to 1."""
        ...


@dataclass
class DriverCounts:
    """What the driver saw, for tests and reports."""

    commands: int = 0
    refused: int = 0  # while stopped
    starved: int = 0  # points of 10 ms without a command, since the first
    longest_queue: int = 0
    stops: int = 0
    starts: int = 0


class DriverModel:
    """The driver of one body. Call `advance` often; times only grow."""

    def __init__(self, body: Body, now_s: float, *, report_s: float = REPORT_S, running: bool = True):
        self.body, self.counts = body, DriverCounts()
        self.stopped = not running
        self._report_s = report_s
        self._queue: Deque[Twist] = deque(maxlen=LONGEST)
        self._played_s = now_s
        self._seq = 0
        self._reported_s = now_s
        self._newest = self._report(now_s)

    def command(self, twist: Twist) -> None:
        """One velocity message: one point."""
        self.counts.commands += 1
        if self.stopped:
            self.counts.refused += 1
            return
        self._queue.append(twist)
        self.counts.longest_queue = max(self.counts.longest_queue, len(self._queue))

    def stop(self) -> None:
        """Erase the queue and let nothing in."""
        self.counts.stops += 1
        self.stopped = True
        self._queue.clear()

    def start(self) -> None:
        """Let commands in again."""
        self.counts.starts += 1
        self.stopped = False

    def advance(self, now_s: float) -> None:
        """Play all points that are due by now, and report where a report is due."""
        while self._played_s + TICK_S <= now_s + 1e-9:
            self._played_s += TICK_S
            twist = self._queue.popleft() if self._queue else None
            self.counts.starved += twist is None and self.counts.commands > 0
            self.body.move(twist)
            if self._played_s - self._reported_s >= self._report_s - 1e-9:
                self._newest, self._reported_s = self._report(self._played_s), self._played_s

    @property
    def state(self) -> ArmState:
        """The newest report."""
        return self._newest

    def _report(self, time_s: float) -> ArmState:
        self._seq += 1
        return ArmState(self._seq, time_s, self.body.pose(), self.body.closure())
