"""A Kinova Jaco2 at a table with three cubes, simulated in MuJoCo (extra `sim`).

Knows no policy. Words, goals and experts import with numpy alone; MuJoCo is loaded when JacoEnv is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stillframe_client.sim.experts import expert_action
from stillframe_client.sim.sensors import SensorNoise
from stillframe_client.sim.state import COLOURS, SceneState
from stillframe_client.sim.tasks import TASKS, Goal

if TYPE_CHECKING:
    from stillframe_client.sim.env import JacoEnv

__all__ = ["COLOURS", "TASKS", "Goal", "JacoEnv", "SceneState", "SensorNoise", "expert_action"]


def __getattr__(name: str) -> Any:
    """Load JacoEnv on demand, so that `python -m stillframe_client.sim.gl` runs where MuJoCo cannot."""
    if name != "JacoEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stillframe_client.sim.env import JacoEnv

    return JacoEnv
