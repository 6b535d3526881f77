"""Of `check`: reaches the arm and watches its reports for a while. Sends it nothing."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np

from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.core.checks import pose_fault

if TYPE_CHECKING:
    from stillframe_client.jaco2.arms.base import Arm, ArmInfo
    from stillframe_client.jaco2.cli.findings import Findings
    from stillframe_client.jaco2.domain import ArmState
    from stillframe_client.jaco2.settings import BridgeSettings, LimitSettings

PART = "arm"
CONNECT_S = 10.0
FIRST_S = 5.0  # for the first report
LOOK_S = 0.003
RESTS_M = 0.005  # a tool that is told nothing moves no further, but for noise


def check_arm(settings: BridgeSettings, seconds: float, findings: Findings) -> None:
    """Say what the arm is, how often it reports, and whether what it reports is usable."""
    try:
        arm = make_arm(settings)
        info = arm.connect(CONNECT_S)
    except (ArmError, ImportError) as error:
        findings.wrong(PART, f"{settings.arm.kind}: {error}")
        return
    try:
        findings.ok(PART, _about(info))
        if not info.has_hand:
            findings.warning(PART, "no hand is moved: the policy's gripper has no effect")
        _watch(arm, info, settings, seconds, findings)
    except ArmError as error:
        findings.wrong(PART, str(error))
    finally:
        arm.close()


def _about(info: ArmInfo) -> str:
    details = "".join(f"\n{name}: {text}" for name, text in info.details.items())
    return f"{info.kind} {info.name} is there{details}"


def _watch(arm: Arm, info: ArmInfo, settings: BridgeSettings, seconds: float, findings: Findings) -> None:
    if _first(arm) is None:
        findings.wrong(PART, f"no report of its pose within {FIRST_S:g} s: is its driver running, is arm.name right?")
        return
    reports, oldest_s = _reports(arm, seconds)
    _rate(reports, oldest_s, info, settings, seconds, findings)
    fault = next(filter(None, (pose_fault(each, None, time.monotonic(), settings.watch) for each in reports)), "")
    if fault:
        findings.wrong(PART, fault)
    else:
        _place(reports, settings.limits, findings)


def _first(arm: Arm) -> Optional[ArmState]:
    until_s = time.monotonic() + FIRST_S
    while time.monotonic() < until_s:
        state = arm.state()
        if state is not None:
            return state
        time.sleep(LOOK_S)
    return None


def _reports(arm: Arm, seconds: float) -> Tuple[List[ArmState], float]:
    """Every report of a while, and how old the newest one ever was."""
    reports: List[ArmState] = []
    oldest_s, until_s = 0.0, time.monotonic() + seconds
    while time.monotonic() < until_s:
        state = arm.state()
        if state is not None:
            oldest_s = max(oldest_s, time.monotonic() - state.time_s)
            if not reports or reports[-1].seq != state.seq:
                reports.append(state)
        time.sleep(LOOK_S)
    return reports, oldest_s


def _rate(
    reports: List[ArmState],
    oldest_s: float,
    info: ArmInfo,
    settings: BridgeSettings,
    seconds: float,
    findings: Findings,
) -> None:
    past_s = reports[-1].time_s - reports[0].time_s
    rate_hz = (len(reports) - 1) / past_s if past_s > 0 else 0.0
    said = "" if info.reports_hz is None else f", {info.reports_hz:g} as it says"
    text = (
        f"{rate_hz:.1f} reports a second over {seconds:g} s{said}; the newest was at most {1e3 * oldest_s:.0f} ms old"
    )
    hold_s = settings.watch.pose_hold_s
    if oldest_s > hold_s:
        findings.wrong(PART, f"{text}: it would hold at watch.pose_hold_s, {1e3 * hold_s:.0f} ms")
    elif oldest_s > hold_s / 2:
        findings.warning(PART, f"{text}: near watch.pose_hold_s, {1e3 * hold_s:.0f} ms")
    else:
        findings.ok(PART, text)


def _place(reports: List[ArmState], limits: LimitSettings, findings: Findings) -> None:
    positions = np.array([report.pose.position_m for report in reports])
    here, wandered_m = positions[-1], float(np.linalg.norm(positions - positions[0], axis=1).max())
    if wandered_m > RESTS_M:
        findings.wrong(
            PART, f"the tool moved {wandered_m:.3f} m while it was told nothing: does another program drive it?"
        )
    outside = _outside(here, limits)
    at = ", ".join(f"{part:+.3f}" for part in here)
    if outside:
        findings.warning(PART, f"the tool is at {at} m, {outside}: from there it only moves back in")
    else:
        findings.ok(PART, f"the tool is at {at} m, inside the box")


def _outside(position: np.ndarray, limits: LimitSettings) -> str:
    if position[2] < limits.floor_m:
        return f"below limits.floor_m {limits.floor_m:g}"
    if (position < limits.low_m).any() or (position > limits.high_m).any():
        return f"outside the box from {limits.low_m} to {limits.high_m}"
    if math.hypot(position[0], position[1]) < limits.column_m:
        return f"nearer to the base's axis than limits.column_m {limits.column_m:g}"
    return ""
