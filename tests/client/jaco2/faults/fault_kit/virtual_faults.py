"""Makes each fault in the virtual world. Knows what makes it and what mends it; not what has to follow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from fault_kit.virtual import STEP_M, World

from stillframe_client.errors import BadReply, Overloaded, PolicyError, Problem, Superseded, Unreachable, refusal
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable, StaleFrame
from stillframe_client.jaco2.domain import ToolPose

Change = Callable[[World], None]


def _answers(make: Callable[[], PolicyError]) -> Change:
    return lambda world: setattr(world.policy, "error", make)


def _camera(make: Callable[[], CameraError]) -> Change:
    return lambda world: setattr(world.eyes, "error", make)


def _refused(status: int, code: str) -> Callable[[], PolicyError]:
    return lambda: refusal(Problem(status, code, "So it is."))


def _set(place: str, name: str, value: object) -> Change:
    """Set an attribute of a part of the world."""

    def change(world: World) -> None:
        part: object = world
        for step in filter(None, place.split(".")):
            part = getattr(part, step)
        setattr(part, name, value)

    return change


def _operator(how: str) -> Change:
    """What operator.py does at a key or a signal."""

    def stop(world: World) -> None:
        world.over = f"stopped by {how}"
        world.streamer.link.order("stop")

    return stop


def _jumped(pose: ToolPose) -> ToolPose:
    return replace(pose, position_m=pose.position_m + np.array([0.0, 0.1, 0.0]))


def _not_finite(pose: ToolPose) -> ToolPose:
    return replace(pose, position_m=np.full(3, math.nan))


def _kill_bridge(world: World) -> None:
    assert world.playing is not None
    world.streamer.link.muted = True
    world.playing.cancel()
    world.streamer.link.close()


MAKE: dict[str, Change] = {
    "answers late": _set("policy", "delay_s", 3.0),
    "503: overloaded": _answers(lambda: Overloaded(Problem(503, "overloaded", "Full."))),
    "503: draining": _answers(_refused(503, "draining")),
    "connection closed": _answers(lambda: Unreachable("The connection broke before the answer.")),
    "network silent": _set("policy", "delay_s", 100.0),
    "superseded": _answers(lambda: Superseded(Problem(409, "superseded", "A newer one came."))),
    "camera's frame stale": _camera(lambda: StaleFrame("0.40 s old")),
    "camera frozen": _camera(lambda: StaleFrame("frozen")),
    "camera gone, and back": _camera(lambda: CameraError("gone")),
    "network silent for good": _set("policy", "delay_s", 100.0),
    "daemon killed (kill -9)": _answers(lambda: Unreachable("Nothing listens there.")),
    "NaN from the policy": _answers(_refused(500, "non-finite-action")),
    "an action of 1 m from the policy": _set("policy", "action", (1.0, 0, 0, 0, 0, 0, 1.0)),
    "garbage in place of an answer": _answers(lambda: BadReply("no action")),
    "camera unusable": _camera(lambda: CameraUnusable("of another size")),
    "bridge killed (kill -9)": _kill_bridge,
    "bridge stopped (SIGSTOP)": _set("streamer.link", "muted", value=True),
    "SIGINT": _operator("SIGINT"),
    "SIGTERM": _operator("SIGTERM"),
    "SIGHUP": _operator("SIGHUP"),
    "SIGQUIT": _operator("SIGQUIT"),
    "any key": _operator("a key"),
    "terminal closed": _operator("the end of its terminal"),
    "streamer: SIGTERM": _set("streamer", "signal", "stopped by SIGTERM"),
    "streamer stopped (SIGSTOP), and back": _set("streamer", "stopped", value=True),
    "streamer stopped (SIGSTOP) for good": _set("streamer", "stopped", value=True),
    "streamer killed (kill -9)": _set("streamer", "dead", value=True),
    "arm cannot be commanded": _set("streamer.arm", "dead", "the driver is gone"),
    "arm's pose stale": _set("streamer.arm", "mute", value=True),
    "arm's pose jumps": _set("streamer.arm", "spoil", _jumped),
    "arm's pose not finite": _set("streamer.arm", "spoil", _not_finite),
    "arm blocked": _set("streamer.arm", "blocked", value=True),
}
ELSEWHERE = {
    "network namespace cut": "to the bridge it is a network that is silent for good",
    "the machine's clock steps": "the virtual clock is the only one here",
}


def mend(world: World) -> None:
    """Let all that can pass be over."""
    world.policy.delay_s, world.policy.error, world.policy.action = 0.0, None, (STEP_M, 0, 0, 0, 0, 0, 1.0)
    world.eyes.error = None
    world.streamer.stopped = False
