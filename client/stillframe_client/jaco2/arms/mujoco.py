"""The `mujoco` arm: the simulated Jaco2 of a world that runs in another process, over its Unix socket.

Knows no physics. Commands are single packets: what the world does not take at once is dropped.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2.arms.base import ArmError, ArmInfo
from stillframe_client.jaco2.arms.driver import REPORT_S
from stillframe_client.jaco2.world import wire

if TYPE_CHECKING:
    import socket

    from stillframe_client.jaco2.domain import ArmState, Twist
    from stillframe_client.jaco2.settings import BridgeSettings

POLL_S = 0.01
SETTLED_M_S = 0.002
HOMING_S = 1.0  # a home that has begun shows motion, or is over, by then


class WorldArm:
    """One connection to a world."""

    def __init__(self, name: str, path: str):
        self._name, self._path = name, path
        self._end: Optional[socket.socket] = None
        self._state: Optional[ArmState] = None
        self._gone = False
        self._owed: Optional[bytes] = None  # a stop that did not fit yet

    def connect(self, timeout_s: float) -> ArmInfo:
        """Reach the world and await the first report."""
        if not self._path:
            raise ArmError(
                "arm.socket is empty: expected the path of a world's socket; start a world with "
                "`python -m stillframe_client.jaco2.world --socket PATH`"
            )
        give_up_s = time.monotonic() + timeout_s
        try:
            self._end = wire.dial(self._path, wire.Hello(wire.ARM), timeout_s)
        except wire.WorldError as error:
            raise ArmError(str(error)) from error
        self._end.settimeout(0)
        while self.state() is None:
            if self._gone or time.monotonic() > give_up_s:
                raise ArmError(
                    f"the world at {self._path} reports no arm within {timeout_s:g} s: is it this version's?"
                )
            time.sleep(POLL_S)
        details = {"body": "MuJoCo", "socket": self._path}
        return ArmInfo("mujoco", self._name, has_hand=True, reports_hz=1 / REPORT_S, details=details)

    def state(self) -> Optional[ArmState]:
        """The newest report."""
        if self._end is not None and not self._gone:
            packets, self._gone = wire.drain(self._end)
            try:
                self._state = wire.read_report(packets[-1], time.monotonic()) if packets else self._state
            except ValueError:
                self._gone = True
            self._pay()
        return self._state

    def send(self, twist: Twist) -> None:
        """One point."""
        if self._end is None or self._gone:
            raise ArmError("the simulated world is gone")
        self._pay()
        self._gone |= wire.try_send(self._end, wire.pack_command(twist)) is None

    def start(self) -> None:
        """Let commands in."""
        self._order(wire.START)

    def stop(self) -> None:
        """Erase the queue; sent again until it fits."""
        self._owed = wire.pack_order(wire.STOP)
        self._pay()

    def home(self, timeout_s: float) -> None:
        """Have the arm go home, and wait until it rests."""
        began_s, resting = time.monotonic(), 0
        self._order(wire.HOME)
        before = self.state()
        while resting < 3:  # reports without motion
            now_s = time.monotonic()
            if self._gone or now_s > began_s + timeout_s:
                raise ArmError(f"the simulated arm did not come home within {timeout_s:g} s")
            time.sleep(POLL_S)
            state = self.state()
            if before is not None and state is not None and state.seq != before.seq:
                still = _speed(before, state) < SETTLED_M_S and now_s > began_s + HOMING_S
                before, resting = state, resting + 1 if still else 0

    def close(self) -> None:
        """Hang up."""
        if self._end is not None:
            self._end.close()
            self._end = None

    def _order(self, kind: int) -> None:
        if self._end is not None and not self._gone:
            self._owed = None  # a stop before this order is over
            self._gone |= wire.try_send(self._end, wire.pack_order(kind)) is None

    def _pay(self) -> None:
        if self._owed is not None and self._end is not None and not self._gone:
            sent = wire.try_send(self._end, self._owed)
            self._gone |= sent is None
            self._owed = None if sent else self._owed


def make(settings: BridgeSettings) -> WorldArm:
    """The arm of the settings."""
    return WorldArm(settings.arm.name, settings.arm.socket)


def _speed(before: ArmState, after: ArmState) -> float:
    """Metres a second between two reports."""
    way_m = float(np.linalg.norm(after.pose.position_m - before.pose.position_m))
    return way_m / max(after.time_s - before.time_s, 1e-3)
