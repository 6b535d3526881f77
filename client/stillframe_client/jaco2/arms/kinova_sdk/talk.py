"""The one thread that calls the library: orders first, then the newest command, and between them readings.

Knows no protocol of arms (arm.py). A command that waited for over two ticks is dropped; a queue in the arm that fills
is drained by leaving commands out, and one that is long is erased and is an error.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Type

from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.kinova_sdk import points, session, structs
from stillframe_client.jaco2.arms.kinova_sdk.errors import SUCCESS, meaning
from stillframe_client.jaco2.arms.kinova_sdk.mailbox import Mailbox
from stillframe_client.jaco2.ceilings import TICK_S

if TYPE_CHECKING:
    from stillframe_client.jaco2.arms.kinova_sdk.library import Library
    from stillframe_client.jaco2.domain import ArmState, Twist
    from stillframe_client.jaco2.settings import ArmSettings

POSITION_S = 0.05  # from one reading of the position to the next
STALE_S = 2 * TICK_S
OFFLINE = 5  # errors in a row of one call
DRAINED_FROM, LONGEST = 5, 25  # points in the arm's queue
CLOSING_S = 3.0


@dataclass
class Counts:
    """What became of the commands, for tests and reports."""

    sent: int = 0
    refused: int = 0  # while stopped
    dropped: int = 0  # a newer one came, or they waited too long
    drained: int = 0  # left out because the arm's queue filled
    errors: int = 0  # of any call


class Talk:
    """The thread of one arm. `newest` and `error` are read from outside; all else belongs to the thread."""

    def __init__(self, library: Library, settings: ArmSettings, clock: Callable[[], float]):
        self.mailbox, self.counts = Mailbox(), Counts()
        self.newest: Optional[ArmState] = None
        self.error = ""  # why commands have no effect
        self._library, self._settings, self._clock = library, settings, clock
        self._homed, self._home_s, self._home_error = threading.Event(), 0.0, ""
        self._running = self._owes_stop = self._drains = False
        self._failures: Dict[str, int] = {}  # in a row, by call
        self._seq = self._readings = 0
        self._turns: Optional[float] = None
        self._due_s = clock()
        self._thread = threading.Thread(target=self._run, name="stillframe-kinova-sdk", daemon=True)
        self._thread.start()

    def home(self, timeout_s: float) -> None:
        """Move home and wait. Raises ArmError."""
        self._homed.clear()
        self._home_s, self._home_error = timeout_s, "the library did not answer"
        self.mailbox.order("home")
        self._homed.wait(timeout_s + CLOSING_S)
        if self._home_error:
            raise ArmError(f"the arm is not at home: {self._home_error}")

    def close(self) -> bool:
        """End the thread, stopping the arm where it was not; whether it ended in time."""
        self.mailbox.close()
        self._thread.join(CLOSING_S)
        ended = not self._thread.is_alive()
        if self._owes_stop or not ended:
            sys.stderr.write("the arm rests, as nothing is sent, but was not stopped: it does not answer\n")
        return ended

    def _run(self) -> None:
        closed = False
        while not closed:
            order, twist, left_s, closed = self.mailbox.take(self._due_s - self._clock())
            if order is not None:
                self._obey(order)
            if twist is not None:
                self._send(twist, left_s)
            if self._clock() >= self._due_s:
                self._look()
        if self._running or self._owes_stop:
            self._stop()

    def _obey(self, order: str) -> None:
        if order == "start":
            self._start()
        elif order == "home":
            self._home()
        else:
            self._stop()

    def _start(self) -> None:
        self._owes_stop = self._drains = False
        self._failures.clear()
        try:
            session.start(self._library)
        except ArmError as error:
            self._stop()
            self.error = f"the arm could not be started: {error}"
        else:
            self._running = True

    def _stop(self) -> None:
        """Stop, or else owe it: it is tried again with each reading."""
        self._running = False
        try:
            session.stop(self._library)
        except ArmError:
            self.counts.errors += 1
            self._owes_stop = True
        else:
            self._owes_stop = False

    def _home(self) -> None:
        self._running = False
        try:
            session.home(self._library, self._home_s, lambda: self.mailbox.has_order)
        except ArmError as error:
            self._home_error = str(error)
        else:
            self._home_error = ""
        self._homed.set()

    def _send(self, twist: Twist, left_s: float) -> None:
        if not self._running:
            self.counts.refused += 1
        elif self._clock() - left_s > STALE_S:
            self.counts.dropped += 1
        elif self._drains:
            self._drains = False
            self.counts.drained += 1
        else:
            hand = self._settings.command == "with_fingers"
            made = points.point(twist, self._turns, self._settings.finger_turns, hand=hand)
            self.counts.sent += self._noted(
                "SendAdvanceTrajectory", self._library.status("SendAdvanceTrajectory", made)
            )

    def _look(self) -> None:
        """One reading: the position, and every other time how full the arm's queue is. And a stop that is owed."""
        if self._owes_stop:
            self._stop()
        self._readings += 1
        if self._readings % 2:
            self._read_position()
        else:
            self._read_queue()
        self._due_s = self._clock() + POSITION_S / 2

    def _read_position(self) -> None:
        reading = self._read("GetCartesianPosition", structs.CartesianPosition)
        if reading is not None:
            self._seq += 1
            self._turns = reading.Fingers.Finger1
            self.newest = points.state(reading, self._seq, self._clock(), self._settings.finger_turns)

    def _read_queue(self) -> None:
        queue = self._read("GetGlobalTrajectoryInfo", structs.TrajectoryFIFO)
        if queue is None or not self._running:
            return
        self._drains = queue.TrajectoryCount > DRAINED_FROM
        if queue.TrajectoryCount > LONGEST:
            self._stop()
            self.error = (
                f"the arm's queue holds {queue.TrajectoryCount} points of 10 ms, expected under {LONGEST}: "
                "it was erased. Does another program command the arm?"
            )

    def _read(self, name: str, kind: Type[Any]) -> Any:
        """What a reading gave; None: nothing."""
        answer = kind()
        return answer if self._noted(name, self._library.status(name, ctypes.byref(answer))) else None

    def _noted(self, name: str, status: int) -> bool:
        """Whether the call succeeded; the fifth failure in a row is an error."""
        if status == SUCCESS:
            self._failures[name] = 0
            return True
        self.counts.errors += 1
        self._failures[name] = self._failures.get(name, 0) + 1
        if self._failures[name] >= OFFLINE:
            self.error = f"the arm is offline: {name} failed {self._failures[name]} times in a row, {meaning(status)}"
        return False
