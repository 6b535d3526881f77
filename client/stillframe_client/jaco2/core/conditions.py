"""What is stale and what is broken at one time, in words: the inputs of the watchdog's table.

Knows no state but whether the arm is armed, and no motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional

from stillframe_client.jaco2.core.checks import pose_fault

if TYPE_CHECKING:
    from stillframe_client.jaco2.core.messages import Inbox
    from stillframe_client.jaco2.domain import ArmState, Step
    from stillframe_client.jaco2.settings import WatchSettings

NO_STEP = "no fresh step"
LATE_TICK_S = 0.25  # a streamer that was away for so long does not know what happened meanwhile


@dataclass(frozen=True)
class Conditions:
    """What speaks against moving; both empty: nothing."""

    stale: List[str]
    broken: List[str]


class Freshness:
    """Follows the ages of heartbeat, pose and step."""

    def __init__(self, watch: WatchSettings):
        self._watch = watch
        self._heard_s: Optional[float] = None
        self._ticked_s: Optional[float] = None
        self._report: Optional[ArmState] = None  # the newest that is believed
        self._step: Optional[Step] = None
        self._held_s: Optional[float] = None
        self._gone = False

    @property
    def report(self) -> Optional[ArmState]:
        """The newest report that is believed; None: none yet."""
        return self._report

    @property
    def step(self) -> Optional[Step]:
        """The step that is followed; None: none yet, or dropped."""
        return self._step

    def forget(self) -> None:
        """Drop the step: arming begins anew."""
        self._step = self._held_s = None

    def follow(self, step: Step) -> None:
        """Note the newest step."""
        self._step = step

    def drop_step(self) -> None:
        """A hold ends the step: only a newer one is followed."""
        self._step = None

    def look(self, inbox: Inbox, arm: Optional[ArmState], now_s: float, *, armed: bool, holding: bool) -> Conditions:
        """What is stale or broken now. An arm that is not armed may be moved by hand: its pose may jump."""
        broken = [reason for reason in (inbox.stop, inbox.garbage) if reason]
        self._gone |= inbox.gone
        if self._gone:
            broken.append("the bridge is gone")
        if inbox.heartbeat or self._heard_s is None:
            self._heard_s = now_s
        stale: List[str] = []
        silent_s, watch = now_s - self._heard_s, self._watch
        _sort(stale, broken, "the bridge is silent", silent_s, watch.heartbeat_hold_s, watch.heartbeat_fault_s)
        if arm is not None and (self._report is None or arm.seq != self._report.seq):
            self._believe(arm, now_s, broken, armed=armed)
        self._look_at_report(now_s, stale, broken)
        if self._step is None or now_s > self._step.deadline_s:
            stale.append(NO_STEP)
        if self._ticked_s is not None and now_s - self._ticked_s > LATE_TICK_S:
            broken.append(f"the streamer was stopped for {now_s - self._ticked_s:.2f} s")
        self._ticked_s = now_s
        self._held_s = None if not holding else now_s if self._held_s is None else self._held_s
        if self._held_s is not None and now_s - self._held_s > self._watch.hold_fault_s:
            broken.append(f"on hold for {self._watch.hold_fault_s:g} s")
        return Conditions(stale, broken)

    def _believe(self, arm: ArmState, now_s: float, broken: List[str], *, armed: bool) -> None:
        """Take a report that can be right; one that is older than the last is passed over."""
        fault = pose_fault(arm, self._report if armed else None, now_s, self._watch)
        if fault:
            broken.append(fault)
        elif self._report is None or arm.time_s >= self._report.time_s:
            self._report = arm

    def _look_at_report(self, now_s: float, stale: List[str], broken: List[str]) -> None:
        if self._report is None:
            stale.append("the arm has not reported")
            return
        age_s = now_s - self._report.time_s
        _sort(stale, broken, "the arm's pose is old", age_s, self._watch.pose_hold_s, self._watch.pose_fault_s)


def _sort(stale: List[str], broken: List[str], what: str, age_s: float, hold_s: float, fault_s: float) -> None:
    """Note an age where it is too much."""
    if age_s > fault_s:
        broken.append(f"{what}: {age_s:.2f} s")
    elif age_s > hold_s:
        stale.append(what)
