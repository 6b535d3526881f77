"""A second scene for the simulated Jaco2: a pot, a cube and a box, a sausage and a pan, a sponge and a stain.

Knows no policy; like the room around it, MuJoCo is loaded when KitchenEnv is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stillframe_client.sim.kitchen.experts import kitchen_action
from stillframe_client.sim.kitchen.state import KitchenState
from stillframe_client.sim.kitchen.tasks import EPISODE_S, TASKS, KitchenTask

if TYPE_CHECKING:
    from stillframe_client.sim.kitchen.env import KitchenEnv

__all__ = ["EPISODE_S", "TASKS", "KitchenEnv", "KitchenState", "KitchenTask", "kitchen_action"]


def __getattr__(name: str) -> Any:
    """Load KitchenEnv on demand."""
    if name != "KitchenEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stillframe_client.sim.kitchen.env import KitchenEnv

    return KitchenEnv
