"""The loop that commands the arm: read the link, read the arm, decide, send, say.

Knows no limit and no state (core/), no process (process.py) and no kind of arm (arms/).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Optional

from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.core.controller import Call
from stillframe_client.jaco2.core.messages import Inbox
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import Status

if TYPE_CHECKING:
    from stillframe_client.jaco2.arms.base import Arm
    from stillframe_client.jaco2.core.controller import Controller, Tick
    from stillframe_client.jaco2.domain import ArmState
    from stillframe_client.jaco2.link import StreamerEnd
    from stillframe_client.jaco2.streamer.pacing import Beat
    from stillframe_client.jaco2.streamer.tick_log import TickLog

SAY_EVERY = 2  # ticks
UNKNOWN = (math.nan,) * 7


class Streamer:
    """One arm, one bridge."""

    def __init__(self, controller: Controller, arm: Arm, link: StreamerEnd, log: TickLog, *, dry: bool):
        self._controller, self._arm, self._link, self._log = controller, arm, link, log
        self._dry = dry  # computes and logs, and sends nothing
        self._ticks = 0
        self._error = ""  # of the last command

    def run(self, beat: Beat, stop: Callable[[], str]) -> None:
        """Tick until the bridge is gone, or `stop` gives a reason, and the arm is at rest and told to stop."""
        gone = False
        while not (gone and self._controller.is_at_rest):
            late_s = beat.wait()
            inbox, reason = self._link.receive(), stop()
            gone |= inbox.gone or bool(reason)
            self.tick(Inbox(inbox.messages, inbox.heartbeat, inbox.gone, inbox.garbage, reason), beat.at_s, late_s)

    def tick(self, inbox: Inbox, now_s: float, late_s: float) -> Tick:
        """One pass of the loop."""
        arm = self._report()
        error, self._error = self._error, ""
        tick = self._controller.tick(inbox, arm, now_s, error)
        if not self._dry:
            self._command(tick)
        self._log.tick(now_s, late_s, inbox, arm, error, tick)
        self._ticks += 1
        if self._ticks % SAY_EVERY == 0 or tick.calls or tick.notes:
            self._link.say(_status(self._ticks, now_s, late_s, arm, tick, at_rest=self._controller.is_at_rest))
        return tick

    def _report(self) -> Optional[ArmState]:
        try:
            return self._arm.state()
        except ArmError as error:
            self._error = str(error)
            return None

    def _command(self, tick: Tick) -> None:
        try:
            if Call.START in tick.calls:
                self._arm.start()
            if tick.command is not None:
                self._arm.send(tick.command)
        except ArmError as error:
            self._error = str(error)
        if Call.STOP in tick.calls:
            self._arm.stop()


def _status(ticks: int, now_s: float, late_s: float, arm: Optional[ArmState], tick: Tick, *, at_rest: bool) -> Status:
    pose = UNKNOWN if arm is None else (*arm.pose.position_m.tolist(), *arm.pose.orientation.tolist())
    closure = math.nan if arm is None or arm.closure is None else arm.closure
    command = tick.command
    said = (*tick.reasons, *tick.notes) if tick.state is State.FAULT else (*tick.notes, *tick.reasons)
    sent = (0.0,) * 6 if command is None else (*command.linear_m_s.tolist(), *command.angular_rad_s.tolist())
    return Status(
        tick=ticks,
        time_s=now_s,
        state=tick.state,
        at_rest=at_rest,
        late_ms=late_s * 1e3,
        pose=pose,
        pose_age_s=math.inf if arm is None else now_s - arm.time_s,
        closure=closure,
        sent=sent,
        reason="; ".join(dict.fromkeys(said)),
    )
