"""Which of a checkpoint's slots for pictures are filled, and what the robot calls the cameras that fill them.

Knows our key `cameras` and lerobot's features; no picture. Openpi's training configuration maps a robot's cameras to
slots, and no checkpoint says how: it names the slots alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillframe.errors import CheckpointError, closest
from stillframe.files.kinds import shown
from stillframe.models.pi0.platforms import SLOTS, Platform

KEY = "cameras"
PICTURE = "observation.images."  # how lerobot's features of cameras begin


def camera_slots(config: Mapping[str, Any], platform: Platform | None, *, lerobot: bool) -> dict[str, str]:
    """Camera -> the slot that it fills, in the order of their patches. What is masked changes nothing, so it has none.

    `cameras` lists slots, or says the robot's name for the camera in each; left out: the slots that are known to be
    filled. Raises CheckpointError.
    """
    known = _features(config) if lerobot else ()
    slots = known or SLOTS
    said = config.get(KEY, list(known or (platform.cameras if platform else SLOTS)))
    faults = [*_faults(said, slots)]
    if faults:
        raise CheckpointError(f"config.json: {KEY} is {shown(repr(said))}; {faults[0]}")
    names = said if isinstance(said, Mapping) else dict(zip(said, said, strict=True))
    return {names[slot]: slot for slot in slots if slot in names}


def _features(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The pictures among lerobot's features, less those of no camera."""
    features = config.get("input_features")
    known = tuple(
        name.removeprefix(PICTURE)
        for name, feature in (features.items() if isinstance(features, Mapping) else ())
        if isinstance(feature, Mapping) and feature.get("type") == "VISUAL" and "empty_camera" not in name
    )
    if not known:
        raise CheckpointError("config.json: input_features names no picture; expected features of type VISUAL")
    return known


def _faults(said: Any, slots: Sequence[str]) -> Iterator[str]:
    """What is wrong with it, the first that is found."""
    listed = isinstance(said, list | tuple)
    named = [*said.values()] if isinstance(said, Mapping) else [*said] if listed else []
    filled = [*said] if isinstance(said, Mapping) or listed else []
    if not named or not all(isinstance(name, str) and name for name in (*filled, *named)):
        yield f"expected one or more of {', '.join(slots)}, as a list, or each with the robot's name for its camera"
        return
    for slot in filled:
        if slot not in slots:
            yield f"expected one or more of {', '.join(slots)}.{closest(slot, slots)}"
    for name in named:
        if named.count(name) > 1:
            yield f"expected {shown(name)!r} once"
    for slot, name in zip(filled, named, strict=True):
        if name != slot and name in slots:
            yield f"{name!r} is a slot of its own: expected the robot's name for the camera in {slot!r}"
