"""A log's ticks as arrays over time: asked, sent, measured; and stretches of equal state.

Knows no chart. Reports and steps that the streamer did not believe are left out. Linear is in the base frame, angular
in the tool's, as they are commanded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.checks import pose_fault, step_fault
from stillframe_client.jaco2.domain import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillframe_client.jaco2.domain import ArmState
    from stillframe_client.jaco2.reports.tick_file import TickFile, TickLine

    Array = NDArray[np.float64]

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])  # an orientation, until the arm reports one
Stretch = Tuple[float, float, str]  # from, until, seconds after the start; what


@dataclass(frozen=True, eq=False)
class Series:
    """One run. Times are seconds after its first tick."""

    time_s: Array  # [n] of the ticks
    late_ms: Array  # [n]
    asked: Array  # [n, 6] m/s, rad/s
    sent: Array  # [n, 6]; nan where nothing was
    told: Array  # [n, 6] sum of what was sent: metres of the base frame, radians of the base frame
    steps: Array  # [n, 6] likewise of the policy's steps, as far as their time went while it ran
    reported_s: Array  # [m] of the arm's reports
    measured: Array  # [m, 6] m/s, rad/s between two reports; the first is nan
    moved: Array  # [m, 6] since the first report: metres, and a rotation vector of the base frame
    position_m: Array  # [m, 3] in the base frame


def series_of(log: TickFile) -> Series:
    """The arrays of a log."""
    start_s = log.ticks[0].time_s
    believed = [_believed(line, log) for line in log.ticks]
    reports = [report for report in believed if report is not None]
    sent = np.array([line.sent[:6] if line.sent else (np.nan,) * 6 for line in log.ticks])
    positions = np.array([report.pose.position_m for report in reports]).reshape(-1, 3)
    return Series(
        time_s=np.array([line.time_s for line in log.ticks]) - start_s,
        late_ms=np.array([line.late_ms for line in log.ticks]),
        asked=np.array([line.asked for line in log.ticks]),
        sent=sent,
        told=_told(believed, sent),
        steps=_steps(log, believed),
        reported_s=np.array([report.time_s for report in reports]) - start_s,
        measured=_measured(reports),
        moved=np.hstack([positions - positions[:1], _turned(reports)]),
        position_m=positions,
    )


def states(log: TickFile) -> List[Stretch]:
    """Stretches of equal state."""
    start_s = log.ticks[0].time_s
    found: List[Stretch] = []
    for line in log.ticks:
        _extend(found, line.time_s - start_s, line.state)
    return found


def reasons(log: TickFile, state: str) -> Dict[str, List[Stretch]]:
    """Reason -> the stretches of this state that it was given for, in the order in which they came."""
    start_s = log.ticks[0].time_s
    found: Dict[str, List[Stretch]] = {}
    last: Tuple[str, ...] = ()
    for line in log.ticks:
        now = line.reasons if line.state == state else ()
        for reason in now:
            _extend(found.setdefault(reason, []), line.time_s - start_s, reason, anew=reason not in last)
        last = now
    return found


def _extend(found: List[Stretch], time_s: float, what: str, *, anew: bool = False) -> None:
    """Add a tick to the last stretch, or begin one."""
    if found and found[-1][2] == what and not anew:
        found[-1] = (found[-1][0], time_s + TICK_S, what)
    else:
        found.append((time_s, time_s + TICK_S, what))


def _believed(line: TickLine, log: TickFile) -> Optional[ArmState]:
    """The tick's new report, if it is one that the streamer goes by."""
    usable = line.report is not None and not pose_fault(line.report, None, line.time_s, log.settings.watch)
    return line.report if usable else None


def _told(believed: List[Optional[ArmState]], sent: Array) -> Array:
    """What commands add up to; those in the tool's frame turned by the newest report."""
    orientation = UPRIGHT
    moves = np.nan_to_num(sent) * TICK_S
    for row, report in zip(moves, believed):  # noqa: B905 -- one each
        orientation = orientation if report is None else report.pose.orientation
        if row[3:].any():
            row[3:] = rotations.rotate(orientation, row[3:])
    total: Array = np.cumsum(moves, axis=0)
    return total


def _steps(log: TickFile, believed: List[Optional[ArmState]]) -> Array:
    """What the policy's steps add up to, without limits, pull and lag."""
    motion, rows = log.settings.motion, np.zeros((len(log.ticks), 6))
    base, orientation = rotations.about_z(math.radians(motion.base_yaw_deg)), UPRIGHT
    ends_s, rate = -math.inf, np.zeros(6)
    for row, line, report in zip(rows, log.ticks, believed):  # noqa: B905 -- one each
        orientation = orientation if report is None else report.pose.orientation
        step = _step(line, log)
        if step is not None:
            ends_s, rate = line.time_s + step.lasts_s, step.delta / step.lasts_s
        if line.state == "RUNNING" and line.time_s < ends_s - TICK_S / 2:
            frame = orientation if motion.rotation_frame == "tool" else base
            row[:3] = rotations.rotate(base, rate[:3]) * TICK_S
            row[3:] = rotations.rotate(frame, rate[3:]) * TICK_S
    total: Array = np.cumsum(rows, axis=0)
    return total


def _step(line: TickLine, log: TickFile) -> Optional[Step]:
    """The tick's newest step, if it is one that is followed."""
    steps = [each for each in line.inbox.messages if isinstance(each, Step)]
    return steps[-1] if steps and not step_fault(steps[-1], log.settings.limits) else None


def _measured(reports: List[ArmState]) -> Array:
    rates = [np.full(6, np.nan)] if reports else []
    for before, after in zip(reports, reports[1:]):  # noqa: B905, RUF007 -- neighbours
        past_s = max(after.time_s - before.time_s, 1e-3)
        turn = rotations.turn_between(before.pose.orientation, after.pose.orientation)
        turn = rotations.rotate(rotations.inverse(after.pose.orientation), turn)
        rates.append(np.concatenate([after.pose.position_m - before.pose.position_m, turn]) / past_s)
    return np.array(rates).reshape(-1, 6)


def _turned(reports: List[ArmState]) -> Array:
    """Sum of the turns between reports: does not jump where a rotation passes half a turn."""
    turns = [np.zeros(3)] if reports else []
    turns += [
        rotations.turn_between(before.pose.orientation, after.pose.orientation)
        for before, after in zip(reports, reports[1:])  # noqa: B905, RUF007 -- neighbours
    ]
    total: Array = np.cumsum(np.array(turns).reshape(-1, 3), axis=0)
    return total
