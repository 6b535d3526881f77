"""Whether a policy fits this arm, these cameras and these limits: what would go wrong is said before anything moves.

Knows no connection: it reads what /v1/models said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from stillframe_client.jaco2.bridge.arm_state import state_faults

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import BridgeSettings
    from stillframe_client.replies import ModelInfo

ACTION = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
UNITS = ("m", "m", "m", "rad", "rad", "rad")
ROUNDING = 1 + 1e-9
OPEN_IS_ONE = "1 = open"


def contract_faults(info: ModelInfo, settings: BridgeSettings) -> List[str]:
    """Why this policy must not drive this arm; empty: nothing."""
    faults = _camera_faults(info, settings)
    if info.action_names != ACTION:
        return [*faults, f"an action of {info.name} is {_names(info.action_names)}; expected {_names(ACTION)}"]
    key, key_faults = _statistics(info, settings.policy.unnorm_key)
    faults += key_faults
    faults += _unit_faults(info)
    if info.state is not None:
        faults += state_faults(info.name, info.state)
    if OPEN_IS_ONE not in info.gripper:
        faults.append(f"the gripper of {info.name} means {info.gripper!r}; expected 0 = close, 1 = open")
    if settings.policy.execute > info.chunk_horizon:
        faults.append(
            f"policy.execute is {settings.policy.execute} and a chunk of {info.name} has {info.chunk_horizon} actions; "
            "expected no more than that"
        )
    return faults if key is None else [*faults, *_range_faults(info, key, settings)]


def warnings(info: ModelInfo, settings: BridgeSettings) -> List[str]:
    """What works otherwise than may be expected."""
    said = []
    sent, seen = sorted(settings.cameras), sorted(info.cameras)
    if sent != seen and len(sent) == len(seen) == 1:
        said.append(f"the camera {sent[0]!r} is sent as the policy's {seen[0]!r}: the only one on both sides")
    for name, camera in settings.cameras.items():
        if camera.resize and (camera.resize, camera.resize) != info.image_size:
            said.append(f"pictures of {name!r} are sent as {camera.resize} px and resized again to {info.image_size}")
    key, _ = _statistics(info, settings.policy.unnorm_key)
    fastest = 0.0 if key is None else _length(_ranges(info, key)[:3]) * settings.policy.hz
    if fastest > settings.limits.linear_m_s:
        said.append(
            f"the policy's fastest action is {fastest:.2f} m/s at {settings.policy.hz:g} Hz; limits.linear_m_s is "
            f"{settings.limits.linear_m_s:g}: such actions are slowed down, and the policy sees that"
        )
    return said


def pictures_named(pictures: Mapping[str, Any], cameras: Sequence[str]) -> Dict[str, Any]:
    """Pictures under the policy's names; a single one needs no name."""
    if len(pictures) == len(cameras) == 1:
        return {cameras[0]: next(iter(pictures.values()))}
    return dict(pictures)


def _camera_faults(info: ModelInfo, settings: BridgeSettings) -> List[str]:
    sent, seen = sorted(settings.cameras), sorted(info.cameras)
    if sent == seen or len(sent) == len(seen) == 1:
        return []
    return [f"{info.name} looks through {_names(seen)}; the configured cameras are {_names(sent)}: name them alike"]


def _statistics(info: ModelInfo, key: Optional[str]) -> Any:
    """The statistics that scale the actions, and what is wrong with the choice."""
    chosen = key or info.default_unnorm_key
    if chosen is None:
        return None, [
            f"policy.unnorm_key is not set and {info.name} has no default; expected {_names(info.unnorm_keys)}"
        ]
    if chosen not in info.unnorm_keys:
        return None, [f"policy.unnorm_key is {chosen!r}; {info.name} has {_names(info.unnorm_keys)}"]
    return chosen, []


def _unit_faults(info: ModelInfo) -> List[str]:
    units = [field.get("unit") for field in _fields(info)[:6]]
    wrong = [f"{name} in {unit}" for name, unit, meant in zip(ACTION, units, UNITS) if unit != meant]  # noqa: B905
    return [f"{info.name} gives {', '.join(wrong)}; expected metres and radians"] if wrong else []


def _range_faults(info: ModelInfo, key: str, settings: BridgeSettings) -> List[str]:
    """Whether the statistics are those of an arm of this size."""
    largest, limits = _ranges(info, key), settings.limits
    faults = []
    shift_m, turn_rad = _length(largest[:3]), _length(largest[3:6])
    if shift_m > limits.step_m * ROUNDING:
        faults.append(
            f"{key} has actions of up to {shift_m:.3f} m; limits.step_m is {limits.step_m:g}, beyond which one is "
            "refused in mid-run: are these the statistics of this robot, and is policy.hz its data's rate?"
        )
    if turn_rad > limits.step_rad * ROUNDING:
        faults.append(f"{key} has actions of up to {turn_rad:.2f} rad; limits.step_rad is {limits.step_rad:g}")
    low, high = _range(_fields(info)[6], key)
    if not (abs(low) < 0.1 and abs(high - 1) < 0.1):
        faults.append(f"{key} scales the gripper from {low:g} to {high:g}; expected 0 to 1")
    return faults


def _ranges(info: ModelInfo, key: str) -> List[float]:
    """The largest magnitude of each of the six movements; 0 where the daemon names none."""
    return [max(map(abs, _range(field, key))) for field in _fields(info)[:6]]


def _range(field: Mapping[str, Any], key: str) -> Sequence[float]:
    ranges = field.get("ranges")
    named = ranges.get(key) if isinstance(ranges, dict) else None
    usable = isinstance(named, list) and len(named) == 2 and all(isinstance(part, (int, float)) for part in named)
    return named if usable and named is not None else (0.0, 1.0 if field.get("name") == "gripper" else 0.0)


def _fields(info: ModelInfo) -> List[Mapping[str, Any]]:
    return [field for field in info.card["action"]["fields"] if isinstance(field, dict)]


def _length(numbers: Sequence[float]) -> float:
    return math.sqrt(sum(number * number for number in numbers))


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
