"""Writes every tick as a line of JSON, on a thread: a slow disk delays no command.

Knows no decision. A line holds all that the tick went by, so that `replay` can decide it again: numbers are written so
that they read back the same.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from typing import IO, TYPE_CHECKING, Any, Dict, List, Optional

from stillframe_client.jaco2.core.messages import Order

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.core.controller import Tick
    from stillframe_client.jaco2.core.messages import Inbox
    from stillframe_client.jaco2.domain import ArmState

MOST_WAITING = 6000  # lines: a minute
LEAVING_S = 2.0


class TickLog:
    """One run's log."""

    def __init__(self, file: Path):
        self._out: IO[str] = file.open("w", encoding="utf-8")
        self._lines: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue(MOST_WAITING)
        self._seen = -1  # seq of the report that was last written
        self.lost = 0  # lines that the disk was too slow for
        self._thread = threading.Thread(target=self._write, name="stillframe-tick-log", daemon=True)
        self._thread.start()

    def header(self, about: Dict[str, Any]) -> None:
        """The first line: settings, arm, start."""
        self._put(about)

    def tick(self, now_s: float, late_s: float, inbox: Inbox, arm: Optional[ArmState], error: str, tick: Tick) -> None:
        """One tick. The arm's report is written when it is a new one."""
        line: Dict[str, Any] = {"t": now_s, "late_ms": round(late_s * 1e3, 3), "state": tick.state.value}
        line.update(_inputs(inbox, error))
        if arm is not None and arm.seq != self._seen:
            self._seen = arm.seq
            line["arm"] = _report(arm)
        if self.lost:
            line["lost"] = self.lost
        line["asked"] = [*tick.asked.linear.tolist(), *tick.asked.angular.tolist()]
        if tick.command is not None:
            command = tick.command
            line["sent"] = [*command.linear_m_s.tolist(), *command.angular_rad_s.tolist(), command.closure]
        for name, values in (("calls", [call.value for call in tick.calls]), ("why", tick.reasons),
                             ("limits", tick.limits), ("notes", tick.notes)):  # fmt: skip
            if values:
                line[name] = list(values)
        self._put(line)

    def close(self) -> None:
        """Write what waits, and end; a disk that has not taken it after a few seconds is left to itself."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=LEAVING_S)
        self._thread.join(LEAVING_S)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._out.close()

    def _put(self, line: Optional[Dict[str, Any]]) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.lost += 1

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if line is None:
                return
            try:
                self._out.write(json.dumps(line, separators=(",", ":")) + "\n")
                if self._lines.empty():
                    self._out.flush()
            except OSError:  # the disk is full, or gone
                self.lost += 1


def _inputs(inbox: Inbox, error: str) -> Dict[str, Any]:
    """What came in, where something did."""
    line: Dict[str, Any] = {}
    if inbox.heartbeat:
        line["heard"] = 1
    if inbox.messages:
        line["in"] = [_message(message) for message in inbox.messages]
    said = {"gone": inbox.gone, "garbage": inbox.garbage, "stop": inbox.stop, "error": error}
    return {**line, **{name: value for name, value in said.items() if value}}


def _message(message: Any) -> List[Any]:
    if isinstance(message, Order):
        return [message.name]
    return ["step", message.seq, message.delta.tolist(), message.gripper, message.lasts_s, message.deadline_s]


def _report(arm: ArmState) -> Dict[str, Any]:
    pose = [*arm.pose.position_m.tolist(), *arm.pose.orientation.tolist()]
    joints = None if arm.joints_rad is None else list(arm.joints_rad)
    return {"seq": arm.seq, "t": arm.time_s, "pose": pose, "closure": arm.closure, "joints": joints}
