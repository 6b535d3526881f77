"""What a LeRobot dataset holds of a frame: features by name, with type, shape, names, and their values as they come.

Knows exported frames; no file. A feature is one of the dataset if every frame has it, in the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import StillframeError
from stillframe.recording.store import EpisodeCard
from stillframe.tools.export.frames import ExportedFrame, names_of

ACTION, STATE, IMAGES = "action", "observation.state", "observation.images."
OURS = "stillframe."  # features that no trainer takes for an observation or an action
FIGURES = ("reuse_ratio", "keyframe", "age_max_frames", "passes", "latency_ms")
PLACE = ("frame_index", "episode_index", "index", "task_index")


@dataclass
class Feature:
    """One feature and its values, frame by frame."""

    dtype: str
    shape: tuple[int, ...]
    names: Sequence[str] | None = None
    values: list[NDArray[Any]] = field(default_factory=list)
    measured: bool = True  # whether it has statistics

    @property
    def described(self) -> dict[str, Any]:
        """As meta/info.json has it."""
        return {"dtype": self.dtype, "shape": [*self.shape], "names": None if self.names is None else [*self.names]}

    @property
    def known(self) -> bool:
        """Whether any value is more than NaN."""
        return self.dtype not in {"float32", "float64"} or not all(np.isnan(value).all() for value in self.values)

    def column(self, frames: slice) -> NDArray[Any]:
        """The values [frames, *shape] of some frames; [frames] where the shape is (1,), but for text."""
        stacked = np.stack(self.values[frames])
        return stacked.reshape(len(stacked)) if self.shape == (1,) else stacked


class FeatureTable:
    """All features of a dataset, as frames are added."""

    def __init__(self) -> None:
        self.features: dict[str, Feature] = {}
        self.frames = 0

    def add(self, frame: ExportedFrame, card: EpisodeCard, place: Mapping[str, int], timestamp_s: float) -> None:
        """Add a frame. Raises StillframeError for a state or an action of another shape than those before."""
        for name, made in _features(frame, card, place, timestamp_s):
            known = self.features.get(name)
            if known is None and self.frames == 0:
                known = self.features[name] = replace(made, values=[])
            if known is None or known.shape != made.shape:
                _check_needed(name, known, made)
            elif len(known.values) == self.frames:
                known.values += made.values
        self.frames += 1

    def whole(self) -> dict[str, Feature]:
        """Those that every frame has. Raises StillframeError where some frames have no state and others do."""
        missing = [name for name in (ACTION, STATE) if name in self.features and not self._has_all(name)]
        if missing:
            raise StillframeError(f"some frames have no {missing[0]} as others do; {EACH_ALONE}")
        return {name: feature for name, feature in self.features.items() if self._has_all(name) and feature.known}

    def _has_all(self, name: str) -> bool:
        return len(self.features[name].values) == self.frames


EACH_ALONE = "a dataset is of one robot and one policy: export the episodes of each by themselves, one folder a call"


def plain(camera: str) -> str:
    """A camera's name as part of a feature's, and so of a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", camera)


def _check_needed(name: str, known: Feature | None, made: Feature) -> None:
    """Raise where a feature that has to be in every frame changes; others are left out."""
    if name in {ACTION, STATE}:
        was = "none" if known is None else f"of {known.shape[0]} numbers"
        raise StillframeError(
            f"a frame's {name} is of {made.shape[0]} numbers, that of those before {was}; {EACH_ALONE}"
        )


def _features(
    frame: ExportedFrame, card: EpisodeCard, place: Mapping[str, int], timestamp_s: float
) -> Iterator[tuple[str, Feature]]:
    """Each with its one value."""
    chunk, state = frame.chunk, frame.recorded.observation.state
    yield ACTION, _vector(chunk[0], names_of(card.action_names, chunk.shape[1], "action"))
    if state is not None:
        yield STATE, _vector(state, names_of(card.state_names, len(state), "state"))
    yield "timestamp", _number(timestamp_s, "float32")
    for name in PLACE:
        yield name, _number(place[name], "int64")
    if len(chunk) > 1:
        names = names_of(card.action_names, chunk.shape[1], "action")
        yield f"{OURS}chunk", _vector(chunk.ravel(), [f"{step}.{name}" for step in range(len(chunk)) for name in names])
    for name in FIGURES:
        yield OURS + name, _number(frame.figures[name], "float32")
    yield f"{OURS}drift", _number(np.nan if frame.drift is None else frame.drift, "float32")
    # Not seconds: LeRobot reads every number with a point as float32, which knows this decade to two minutes.
    yield f"{OURS}time_ns", _number(round(frame.recorded.submitted_s * 1e9), "int64")
    reason = np.array(frame.keyframe_reason, object)
    yield f"{OURS}keyframe_reason", Feature("string", (1,), None, [reason], measured=False)
    for camera, patches in (frame.cache.patches or {}).items():
        rows, columns = patches.grid
        reused = np.zeros(rows * columns, np.float32)
        reused[list(patches.reused)] = 1
        names = [f"{row}.{column}" for row in range(rows) for column in range(columns)]
        yield f"{OURS}reused.{plain(camera)}", Feature("float32", reused.shape, names, [reused], measured=False)


def _vector(values: NDArray[np.float64], names: Sequence[str]) -> Feature:
    return Feature("float32", values.shape, names, [values.astype(np.float32)])


def _number(value: float, dtype: str) -> Feature:
    return Feature(dtype, (1,), None, [np.array([value], dtype)])
