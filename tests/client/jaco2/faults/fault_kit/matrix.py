"""The faults, what has to follow each, and within how many ticks: what tests hold and README.md shows.

Knows how no fault is made: virtual_faults.py and real_faults.py do. The bounds are those of the settings below, and
count from the fault to the first command of rest that no other follows, and to the arm's stop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stillframe_client.jaco2.settings import BridgeSettings, LimitSettings, PolicySettings

WORDS = "pick up the red cube"
MODES = ("lockstep", "realtime")
HOLD, STOP, LEFT = "HOLD, and it goes on by itself", "stopped", "the arm's queue runs empty"

# Ticks: to come to rest from the highest speed of the settings below, and to be stopped after that.
BRAKE, HARD_BRAKE, ZEROS = 26, 17, 32
STEP, ANSWER = 10, 10  # an action; an answer and what leads to it
SLACK = 4  # a heartbeat, and the tick that hears it
BACK_TICKS = (
    200 + STEP + 2 * ANSWER
)  # from a fault's end until the arm moves again: what was asked in vain is given up first
UNTIL_HOLD = {"lockstep": 200 + STEP + ANSWER, "realtime": 2 * STEP + ANSWER}  # without answers


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    follows: str
    rest_ticks: dict[str, int]  # mode -> most ticks from the fault to rest
    stop_ticks: dict[str, int] | None = None  # and to the arm's stop; None: it is not stopped


def _each(ticks: int) -> dict[str, int]:
    return dict.fromkeys(MODES, ticks)


def _held(name: str) -> Fault:
    """What keeps answers from coming, and passes."""
    return Fault(name, HOLD, {mode: ticks + BRAKE for mode, ticks in UNTIL_HOLD.items()})


def _stopped(name: str, after: int) -> Fault:
    """A FAULT that is noticed after so many ticks while the arm moves."""
    return Fault(name, STOP, _each(after + HARD_BRAKE), _each(after + HARD_BRAKE + ZEROS))


def _stopped_from_hold(name: str, hold_after: int, fault_after: int) -> Fault:
    return Fault(name, STOP, _each(hold_after + BRAKE), _each(fault_after + ZEROS))


def _given_up(name: str) -> Fault:
    """No answer comes any more: HOLD first, and after give_up_s the end."""
    rest = {mode: ticks + BRAKE for mode, ticks in UNTIL_HOLD.items()}
    return Fault(name, STOP, rest, _each(1000 + STEP + ANSWER + SLACK + BRAKE + ZEROS))


def _ended(name: str) -> Fault:
    """The bridge ends the episode."""
    after = STEP + ANSWER + SLACK
    return Fault(name, STOP, _each(after + BRAKE), _each(after + BRAKE + ZEROS))


MATRIX = (
    _held("answers late"),
    _held("503: overloaded"),
    _held("503: draining"),
    _held("connection closed"),
    _held("network silent"),
    _held("superseded"),
    _held("camera's frame stale"),
    _held("camera frozen"),
    _held("camera gone, and back"),
    _given_up("network silent for good"),
    _given_up("network namespace cut"),
    _given_up("daemon killed (kill -9)"),
    _ended("NaN from the policy"),
    _stopped("an action of 1 m from the policy", STEP + ANSWER + SLACK),
    _ended("garbage in place of an answer"),
    _ended("camera unusable"),
    _stopped("bridge killed (kill -9)", SLACK),
    _stopped_from_hold("bridge stopped (SIGSTOP)", 15 + SLACK, 100 + SLACK),
    _stopped("SIGINT", SLACK),
    _stopped("SIGTERM", SLACK),
    _stopped("SIGHUP", SLACK),
    _stopped("SIGQUIT", SLACK),
    _stopped("any key", SLACK),
    _stopped("terminal closed", SLACK),
    _stopped("streamer: SIGTERM", SLACK),
    Fault("streamer stopped (SIGSTOP), and back", STOP, _each(50 + SLACK), _each(50 + SLACK + ZEROS)),
    Fault("streamer stopped (SIGSTOP) for good", LEFT, _each(SLACK)),
    Fault("streamer killed (kill -9)", LEFT, _each(SLACK)),
    _stopped("arm cannot be commanded", SLACK),
    _stopped_from_hold("arm's pose stale", 50 + SLACK, 150 + SLACK),
    _stopped("arm's pose jumps", STEP + SLACK),
    _stopped("arm's pose not finite", STEP + SLACK),
    _stopped("arm blocked", 100 + 10 + 2 * STEP + SLACK),
    Fault("the machine's clock steps", "nothing", _each(0)),
)
BY_NAME = {fault.name: fault for fault in MATRIX}


def settings(mode: str, **policy: object) -> BridgeSettings:
    """What the bounds are for: the defaults, at full speed."""
    made = BridgeSettings(policy=PolicySettings(mode=mode, instruction=WORDS), limits=LimitSettings(speed=1.0))
    return replace(made, policy=replace(made.policy, **policy))  # type: ignore[arg-type]
