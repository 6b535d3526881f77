"""The words that every room shares: what a robot sees, what it is told to do, what that cost.

Knows no HTTP and no torch: numpy arrays and plain values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [height, width, 3], RGB


@dataclass(frozen=True)
class Observation:
    """What the robot sees and is asked to do at one control step."""

    images: Mapping[str, Image]  # camera name -> picture, in the order the client sent them
    instruction: str
    unnorm_key: str | None = None  # which data set's statistics scale the action; None: the only one


@dataclass(frozen=True)
class ActionChunk:
    """Actions in the robot's units, first one due now."""

    actions: NDArray[np.float64]  # [horizon, action_dim]: dx, dy, dz, droll, dpitch, dyaw, gripper
    unnorm_key: str
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [horizon * action_dim]


@dataclass(frozen=True)
class StepReport:
    """What one frame cost. Stage names are those of the walk: queue, prepare, vision, prefill, decode, ..."""

    stages_ms: Mapping[str, float]  # in the order they ran, queue first
    passes: int  # decoder passes until the action was complete

    @property
    def total_ms(self) -> float:
        """From the frame's entry into the queue to its action."""
        return sum(self.stages_ms.values())


@dataclass(frozen=True)
class Step:
    """One answered frame."""

    chunk: ActionChunk
    report: StepReport


@dataclass(frozen=True)
class PolicyInfo:
    """What a served policy is and what its numbers mean: the contract that clients program against."""

    name: str
    family: str
    parameters: int
    dtype: str
    device: str
    cameras: tuple[str, ...]
    image_size: tuple[int, int]  # height, width as the model sees them; any size is accepted and resized
    action_names: tuple[str, ...]
    gripper: str  # which end is open
    chunk_horizon: int
    norm_stats: Mapping[str, Mapping[str, Any]]  # unnorm_key -> {"q01": [...], "q99": [...], "mask": [...]}
    default_unnorm_key: str | None  # None when the client has to choose


class Policy(Protocol):
    """All that the web floor knows of the engine. Thread-safe."""

    @property
    def info(self) -> PolicyInfo:
        """The contract; constant."""
        ...

    @property
    def ready(self) -> bool:
        """Warm, and not stopping."""
        ...

    def submit(self, observation: Observation, max_age_ms: float) -> Future[Step]:
        """Queue one frame; the future holds its Step or a StillframeError.

        A frame older than `max_age_ms` when its turn comes is answered with DeadlineExceeded and never computed.
        """
        ...

    def close(self) -> None:
        """Answer what is queued, then free the device."""
        ...
