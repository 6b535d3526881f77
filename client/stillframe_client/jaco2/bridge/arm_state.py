"""The state for policies that read one: numbers under the policy's names, out of what the arm reported.

Knows the names, units and conventions of the simulated arm's data; no connection. Positions and rotations are in the
policy's frame, which `motion.base_yaw_deg` turns into the arm's base frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Dict, List, Optional

import numpy as np

from stillframe_client.jaco2 import rotations

if TYPE_CHECKING:
    from stillframe_client.jaco2.link import Status
    from stillframe_client.replies import StateSpec

# Of stillframe_client.sim.proprioception, which needs the simulator: a test holds both to each other.
UNITS = {"tool_x": "m", "tool_y": "m", "tool_z": "m"}
UNITS.update({"tool_rx": "rad", "tool_ry": "rad", "tool_rz": "rad", "opening": "1"})
# The tool's home orientation in the policy's frame, x, y, z, w: rotations are told from it. It points straight down.
HOME = (0.9999999799899743, 0.0001991547726308829, 1.7765162084759334e-05, -6.467330262308527e-06)


class NoState(Exception):
    """The arm has not reported what the policy reads; the text says what."""


def state_faults(name: str, state: StateSpec) -> List[str]:
    """Why the bridge cannot give a policy its state; empty: it can. A unit that is not said is taken as ours."""
    missing = [own for own in state.names if own not in UNITS]
    if missing:
        known = ", ".join(UNITS)
        return [f"{name} reads a state with {', '.join(missing)}, which the bridge does not know; it knows {known}"]
    pairs = zip(state.names, state.units)  # noqa: B905 -- Python 3.8
    wrong = [
        f"{own} in {unit} (the bridge gives {UNITS[own]})" for own, unit in pairs if unit not in (None, UNITS[own])
    ]
    return [f"{name} reads a state with {', '.join(wrong)}"] if wrong else []


class StateReader:
    """Reads the state that a policy is sent."""

    def __init__(self, state: Optional[StateSpec], base_yaw_deg: float):
        """`state`: what the policy reads, without faults; None: nothing."""
        self._names = None if state is None else state.names
        self._from_base = rotations.inverse(rotations.about_z(math.radians(base_yaw_deg)))

    def read(self, status: Optional[Status]) -> Optional[List[float]]:
        """The policy's numbers in its order; None: it reads none. Raises NoState."""
        if self._names is None:
            return None
        if status is None:
            raise NoState("the streamer has not said yet where the arm is")
        numbers = self._numbers(status)
        unknown = [name for name in self._names if not math.isfinite(numbers[name])]
        if unknown:
            raise NoState(f"the policy reads {', '.join(unknown)}, and the arm has not reported it")
        return [numbers[name] for name in self._names]

    def _numbers(self, status: Status) -> Dict[str, float]:
        """Each name's number; NaN: not reported."""
        tool, opening = np.full(6, math.nan), 1.0 - status.closure
        if all(map(math.isfinite, status.pose)):
            tool[:3] = rotations.rotate(self._from_base, np.array(status.pose[:3]))
            own = rotations.multiply(self._from_base, rotations.normalised(np.array(status.pose[3:])))
            tool[3:] = rotations.turn_between(np.array(HOME), own)
        if math.isfinite(opening):
            opening = min(max(opening, 0.0), 1.0)
        return dict(zip(UNITS, [*tool.tolist(), opening]))  # noqa: B905 -- Python 3.8


def resting_state(state: Optional[StateSpec]) -> Optional[List[float]]:
    """A state for a frame that only tries the policy: the arm at home, its hand open. None: it reads none."""
    at_home = {"tool_x": 0.38, "tool_z": 0.28, "opening": 1.0}
    return None if state is None else [at_home.get(name, 0.0) for name in state.names]
