"""How a served policy is asked in the kitchen: its own contract is the simulated Jaco2's, so little is left to say.

Knows model cards; no connection and no simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from stillframe.errors import ConfigError
from stillframe_client import ModelInfo
from stillframe_client.sim.proprioception import STATE_NAMES
from stillframe_lab.evaluation.evaluate import camera_sources
from stillframe_lab.kitchen.simulator import KitchenReading
from stillframe_lab.libero.pictures import Mask, Picture, Vector, upright
from stillframe_lab.libero.process import Masks, Pictures, Reading

ACTION_NUMBERS = 7
UNNORM_KEY = "jaco_sim"


@dataclass(frozen=True)
class KitchenAsking:
    """How one policy is asked. Implements libero.episode.Asking."""

    sources: Mapping[str, str]  # the policy's camera -> the simulator's
    unnorm_key: str
    execute: int  # actions of each chunk that are played

    @property
    def looks_at(self) -> tuple[str, ...]:
        """See Asking."""
        return tuple(dict.fromkeys(self.sources.values()))

    def seen(self, pictures: Pictures) -> dict[str, Picture]:
        """See Asking: at the simulator's size, which the daemon resizes."""
        return {camera: upright(pictures[source]) for camera, source in self.sources.items()}

    def masked(self, masks: Masks) -> dict[str, Mask]:
        """See Asking."""
        return {camera: upright(masks[source]) for camera, source in self.sources.items()}

    def state(self, reading: Reading) -> Vector:
        """See Asking: [7], as the arm reports it."""
        return cast(KitchenReading, reading).state

    def played(self, action: Vector) -> Vector:
        """See Asking: as it is."""
        return action

    def described(self) -> dict[str, Any]:
        """See Asking."""
        return {"cameras": dict(self.sources), "unnorm_key": self.unnorm_key, "execute": self.execute}


def kitchen_asking(info: ModelInfo, execute: int | None = None, unnorm_key: str | None = None) -> KitchenAsking:
    """How to ask the policy that `info` is the contract of; `execute` and `unnorm_key` win over what is found.

    Raises ConfigError for one that cannot be asked with the simulated Jaco2.
    """
    if len(info.action_names) != ACTION_NUMBERS:
        raise ConfigError(f"{info.name} answers {len(info.action_names)} numbers; this arm takes {ACTION_NUMBERS}")
    if info.state is not None and len(info.state.names) != len(STATE_NAMES):
        said = f"{info.name} reads {len(info.state.names)} numbers of state"
        raise ConfigError(f"{said}; this arm has {len(STATE_NAMES)}: {', '.join(STATE_NAMES)}")
    if execute is not None and not 1 <= execute <= info.chunk_horizon:
        raise ConfigError(f"--execute is {execute}; a chunk of {info.name} has {info.chunk_horizon} actions")
    return KitchenAsking(camera_sources(info.cameras), unnorm_key or _unnorm_key(info), execute or info.execute)


def _unnorm_key(info: ModelInfo) -> str:
    """The simulation's statistics, or the only ones."""
    if UNNORM_KEY in info.unnorm_keys:
        return UNNORM_KEY
    if len(info.unnorm_keys) == 1:
        return info.unnorm_keys[0]
    known = ", ".join(info.unnorm_keys)
    raise ConfigError(f"{info.name} has no statistics called {UNNORM_KEY}; choose with --unnorm-key: {known}")
