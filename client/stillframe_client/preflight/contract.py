"""Compares a robot's frame with what a policy expects: cameras and sizes, the state, the statistics.

Knows the model card; no connection. The daemon has the last word: the frame is sent as well.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from stillframe_client.preflight.findings import Finding, Level

if TYPE_CHECKING:
    from stillframe_client.frames import Picture
    from stillframe_client.preflight.frame import RobotFrame
    from stillframe_client.replies import ModelInfo, StateSpec

_SLACK = 0.1  # of a range, by which a number may leave it without a word


def compare(frame: RobotFrame, info: ModelInfo) -> List[Finding]:
    """Return what the contract says of a frame, in the order cameras, state, statistics, action."""
    return [*_cameras(frame, info), *_state(frame, info), _statistics(frame, info), _action(info)]


def _cameras(frame: RobotFrame, info: ModelInfo) -> Iterator[Finding]:
    """One line a camera of the policy's, and one for each picture that it has no camera for."""
    left = dict(frame.pictures)
    keys = _mapping(_observation(info).get("camera_keys"))
    for camera in info.cameras:
        unnamed = None if len(info.cameras) == len(frame.pictures) == 1 else camera
        names = (camera, keys.get(camera, camera), info.camera_slots.get(camera, camera), unnamed)
        name = next((name for name in names if name in left), camera)
        picture = left.pop(name, None)
        subject = f"camera {camera}"
        if picture is None:
            yield Finding(Level.WRONG, subject, "no picture is sent for it, and the policy looks through it")
        else:
            yield _size(subject, picture, info)
    for name in left:
        yield Finding(Level.WRONG, f"camera {name}", _no_camera(name, info.cameras))


def _no_camera(name: Optional[str], cameras: Sequence[str]) -> str:
    known = ", ".join(cameras)
    if name is None:
        return f"a picture without a name; the policy's cameras are {known}"
    near = difflib.get_close_matches(name, list(cameras), n=1)
    return f"the policy has no such camera; it has {known}{f': did you mean {near[0]}?' if near else ''}"


def _size(subject: str, picture: Picture, info: ModelInfo) -> Finding:
    height, width = picture.shape[:2]
    seen_height, seen_width = info.image_size
    sent, seen = f"{height}x{width}", f"{seen_height}x{seen_width}"
    crop = _observation(info).get("center_crop")
    middle = f"; of that the middle {crop:.0%} of the area is looked at" if isinstance(crop, float) else ""
    if (height, width) == (seen_height, seen_width):
        return Finding(Level.OK, subject, f"{sent}, as the model sees it{middle}")
    if min(height / seen_height, width / seen_width) < 1:
        return Finding(
            Level.WARNING, subject, f"{sent} is enlarged to {seen}: details that it lacks stay lacking{middle}"
        )
    if not math.isclose(height / width, seen_height / seen_width, rel_tol=0.01):
        told = f"{sent} is resized to {seen}, its sides by different factors: crop it as the training data were{middle}"
        return Finding(Level.WARNING, subject, told)
    return Finding(Level.OK, subject, f"{sent}, resized to {seen}{middle}")


def _state(frame: RobotFrame, info: ModelInfo) -> Iterator[Finding]:
    reads, sent = info.state, frame.state
    if reads is None:
        if sent is None:
            yield Finding(Level.OK, "state", "none is read, none is sent")
        else:
            yield Finding(Level.WARNING, "state", f"{_counted(len(sent))} left aside: this policy reads no state")
        return
    fault = _state_fault(sent, reads)
    if fault is not None:
        yield Finding(Level.WRONG, "state", f"{fault}; the policy reads {_listed(reads)}")
        return
    yield Finding(Level.OK, "state", f"{_listed(reads)}{'' if isinstance(sent, dict) else ', in this order'}")
    if None in reads.units:
        told = "the checkpoint does not name its units: check that yours are those of its training data"
        yield Finding(Level.WARNING, "state", told)
    if frame.measured and sent is not None:
        numbers = dict(zip(reads.names, sent)) if isinstance(sent, list) else sent  # noqa: B905 (Python 3.8)
        yield from _outside(numbers, frame, info)


def _state_fault(sent: Any, reads: StateSpec) -> Optional[str]:
    if sent is None:
        return "none is sent"
    if isinstance(sent, list):
        return None if len(sent) == len(reads.names) else f"{_counted(len(sent))} sent"
    unknown = [name for name in sent if name not in reads.names]
    missing = [name for name in reads.names if name not in sent]
    parts = [f"it has no {', '.join(unknown)}"] if unknown else []
    parts += [f"{', '.join(missing)} not sent"] if missing else []
    return " and ".join(parts) or None


def _outside(numbers: Mapping[str, float], frame: RobotFrame, info: ModelInfo) -> Iterator[Finding]:
    """Numbers beyond what the training data held: of another unit, most likely."""
    key = frame.unnorm_key or info.default_unnorm_key
    fields = _mapping(_observation(info).get("state")).get("fields")
    for said in fields if isinstance(fields, list) else []:
        low, high = _range(said, key)
        number, slack = numbers[said["name"]], _SLACK * (high - low)
        if not low - slack <= number <= high + slack:
            told = f"{said['name']} = {number:g} is clipped: the training data go from {low:g} to {high:g}"
            yield Finding(Level.WARNING, "state", f"{told} [{said['unit'] or '?'}]; is it in that unit?")


def _range(said: Mapping[str, Any], key: Optional[str]) -> Tuple[float, float]:
    found = _mapping(said.get("ranges")).get(key or "")
    if not isinstance(found, list) or len(found) != 2:
        return -math.inf, math.inf
    return float(found[0]), float(found[1])


def _statistics(frame: RobotFrame, info: ModelInfo) -> Finding:
    key, choices = frame.unnorm_key, ", ".join(info.unnorm_keys)
    if key is None and info.default_unnorm_key is None:
        return Finding(Level.WRONG, "statistics", f"unnorm_key has to name one of {choices}")
    if key is not None and key not in info.unnorm_keys:
        return Finding(Level.WRONG, "statistics", f"there are none called {key}; choose one of {choices}")
    return Finding(Level.OK, "statistics", f"actions are scaled by {key or info.default_unnorm_key}")


def _action(info: ModelInfo) -> Finding:
    steps = "one action" if info.chunk_horizon == 1 else f"{info.chunk_horizon} actions"
    told = f"{steps} of {len(info.action_names)} numbers: {', '.join(info.action_names)}; gripper: {info.gripper}"
    return Finding(Level.OK, "answer", told)


def _listed(reads: StateSpec) -> str:
    named = [f"{name} [{reads.units[at]}]" if reads.units[at] else name for at, name in enumerate(reads.names)]
    return f"{_counted(len(named))}: {', '.join(named)}"


def _counted(count: int) -> str:
    return f"{count} number{'s' * (count != 1)}"


def _observation(info: ModelInfo) -> Dict[str, Any]:
    return _mapping(info.card.get("observation"))


def _mapping(value: Any) -> Dict[str, Any]:
    return value if isinstance(value, dict) else {}
