"""One tick of the streamer: what came in, what the arm reports and the time decide what the arm is told.

Knows no process, no wire and no arm; pure but for what it remembers, so a log can be replayed through it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, List, Optional, Tuple

from stillframe_client.jaco2.ceilings import SETPOINT_S, TICK_S
from stillframe_client.jaco2.core.checks import StallCheck, step_fault
from stillframe_client.jaco2.core.conditions import NO_STEP, Conditions, Freshness
from stillframe_client.jaco2.core.gripper import Gripper
from stillframe_client.jaco2.core.messages import Inbox, Order
from stillframe_client.jaco2.core.safety import REST, Motion, SafetyFilter
from stillframe_client.jaco2.core.tracking import Tracker
from stillframe_client.jaco2.core.watchdog import ARMED, Event, State, next_state
from stillframe_client.jaco2.domain import Step, Twist

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState
    from stillframe_client.jaco2.settings import BridgeSettings

ZEROS_S = 0.3  # of rest that is sent before the arm is stopped
QUEUE_EMPTY_S = 2.5 * TICK_S  # after such a gap between commands the arm has come to rest by itself


class Call(Enum):
    """What is asked of the arm beside commands."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True)
class Tick:
    """What came of one tick."""

    state: State
    command: Optional[Twist]  # None: nothing is sent
    calls: Tuple[Call, ...]
    asked: Motion  # before the limits
    reasons: Tuple[str, ...]  # of a state that is not RUNNING
    limits: Tuple[str, ...]  # that changed what was asked for
    notes: Tuple[str, ...] = field(default=())  # what happened, once each


class Controller:
    """The streamer's decisions for one arm."""

    def __init__(self, settings: BridgeSettings, *, dry: bool = False):
        """`dry`: nothing is sent to the arm, so that it does not move is no fault and nothing to make up for."""
        self._settings, self._dry = settings, dry
        self._state = State.DISARMED
        self._freshness = Freshness(settings.watch)
        self._filter = SafetyFilter(settings.limits)
        self._tracker = Tracker(replace(settings.motion, feedback_1_s=0.0) if dry else settings.motion, settings.limits)
        self._stall = StallCheck(settings.watch, settings.limits.latency_s, settings.limits.speed)
        self._gripper = Gripper(settings.motion)
        self._closure = 0.0
        self._seq = -1  # of the newest step
        self._sent_s: Optional[float] = None  # when a command was last sent
        self._zeros_since_s: Optional[float] = None  # of a winding down
        self._winding_down = False
        self._hard = False  # it is one after a fault
        self._fault: Tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """What it does now."""
        return self._state

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is sent any more and the arm has been told to stop."""
        return self._state not in ARMED and not self._winding_down

    def tick(self, inbox: Inbox, arm: Optional[ArmState], now_s: float, arm_error: str = "") -> Tick:
        """Decide for this tick. `arm` is its newest report, `arm_error` why it could not be commanded."""
        if self._sent_s is not None and now_s - self._sent_s > QUEUE_EMPTY_S:
            self._filter.came_to_rest()
        before = self._state
        calls: List[Call] = []
        notes: List[str] = []
        conditions = self._conditions(inbox, arm, arm_error, now_s)
        self._hear(inbox, now_s, conditions, calls, notes)
        if self._state in ARMED:
            self._turn(conditions)
        if self._state is State.RUNNING and before is not State.RUNNING:
            self._begin(now_s)
        if self._state is State.FAULT and before is not State.FAULT:
            self._fault = tuple(conditions.broken) or ("stopped",)
            notes.extend(self._fault)
        return self._out(now_s, conditions, calls, notes)

    def _conditions(self, inbox: Inbox, arm: Optional[ArmState], arm_error: str, now_s: float) -> Conditions:
        conditions = self._freshness.look(
            inbox, arm, now_s, armed=self._state in ARMED, holding=self._state is State.HOLD
        )
        if arm_error:
            conditions.broken.append(arm_error)
        report = self._freshness.report
        if report is not None and self._state in ARMED and not self._dry and not conditions.broken:
            stalled = self._stall.fault(report)
            conditions.broken.extend([stalled] if stalled else [])
        return conditions

    def _hear(self, inbox: Inbox, now_s: float, found: Conditions, calls: List[Call], notes: List[str]) -> None:
        """Take steps and orders in their order."""
        for message in inbox.messages:
            if isinstance(message, Order):
                self._obey(message, found, calls, notes)
            else:
                self._take(message, now_s, found, notes)

    def _obey(self, order: Order, found: Conditions, calls: List[Call], notes: List[str]) -> None:
        if order.name == "stop":
            found.broken.append("stopped by the operator")
        elif order.name == "disarm":
            self._go(Event.DISARM)
        elif order.name == "clear":
            self._go(Event.CLEAR)
        elif self._state is State.DISARMED:
            self._arm(found, calls, notes)
        else:
            notes.append(f"not armed: the state is {self._state.value}; expected DISARMED")

    def _arm(self, found: Conditions, calls: List[Call], notes: List[str]) -> None:
        against = [*found.broken, *(reason for reason in found.stale if reason != NO_STEP)]
        if self._winding_down:
            against.append("the arm is still coming to rest")
        report = self._freshness.report
        if against or report is None:
            notes.append(f"not armed: {'; '.join(against)}")
            return
        self._freshness.forget()
        if NO_STEP not in found.stale:  # one of the run before may still have been good
            found.stale.append(NO_STEP)
        self._stall.clear()
        self._filter.came_to_rest()
        self._gripper = Gripper(self._settings.motion)
        self._closure = 0.0 if report.closure is None else min(max(report.closure, 0.0), 1.0)
        self._fault, self._sent_s = (), None
        self._go(Event.ARM)
        calls.append(Call.START)

    def _take(self, step: Step, now_s: float, found: Conditions, notes: List[str]) -> None:
        fault = step_fault(step, self._settings.limits)
        if fault:
            found.broken.append(fault)
        elif step.seq <= self._seq:
            notes.append(f"step {step.seq} came after step {self._seq}: dropped")
        elif step.deadline_s < now_s:
            self._seq = step.seq
            notes.append(f"step {step.seq} is over: dropped")
        elif self._state in ARMED:
            self._seq = step.seq
            self._follow(step, now_s, found)

    def _follow(self, step: Step, now_s: float, found: Conditions) -> None:
        latest_s = now_s + SETPOINT_S  # whatever the bridge says
        step = replace(step, deadline_s=min(step.deadline_s, latest_s))
        self._freshness.follow(step)
        self._closure = self._gripper.closure(step.gripper, self._closure)
        if NO_STEP in found.stale:
            found.stale.remove(NO_STEP)
        if self._state is State.RUNNING:
            self._tracker.take(step, now_s)

    def _turn(self, found: Conditions) -> None:
        self._go(Event.BROKEN if found.broken else Event.STALE if found.stale else Event.FRESH)

    def _go(self, event: Event) -> None:
        before, self._state = self._state, next_state(self._state, event)
        if before in ARMED and self._state not in ARMED:
            self._winding_down, self._zeros_since_s = True, None
            self._hard = self._state is State.FAULT
        if self._state is State.HOLD and before is not State.HOLD:
            self._freshness.drop_step()

    def _begin(self, now_s: float) -> None:
        """Run from where the arm is."""
        report, step = self._freshness.report, self._freshness.step
        if report is not None and step is not None:
            self._tracker.begin(report, now_s)
            self._tracker.take(step, now_s)

    def _out(self, now_s: float, found: Conditions, calls: List[Call], notes: List[str]) -> Tick:
        asked, command, report = REST, None, self._freshness.report
        limits: List[str] = []
        if self._state is State.RUNNING and report is not None:
            asked = self._tracker.asked(report, now_s)
        if self._state in ARMED or self._winding_down:
            motion, limits = self._filter.next(asked, report, now_s, hard=self._winding_down and self._hard)
            command = Twist(motion.linear, motion.angular, self._closure)
            self._sent_s = now_s
            if report is not None and self._state in ARMED:
                self._stall.sent(motion, report, now_s)
            if self._winding_down:
                command = self._wind_down(command, motion, now_s, calls)
        reasons = self._fault if self._state is State.FAULT else (*found.broken, *found.stale)
        return Tick(self._state, command, tuple(calls), asked, tuple(reasons), tuple(limits), tuple(notes))

    def _wind_down(self, command: Twist, motion: Motion, now_s: float, calls: List[Call]) -> Optional[Twist]:
        """Rest is sent for a while; then the arm is stopped, and nothing is sent any more."""
        if not motion.is_rest:
            self._zeros_since_s = None
        elif self._zeros_since_s is None:
            self._zeros_since_s = now_s
        elif now_s - self._zeros_since_s >= ZEROS_S:
            self._winding_down, self._sent_s = False, None
            calls.append(Call.STOP)
            return None
        return command
