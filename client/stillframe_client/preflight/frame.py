"""The frame that a robot would send, from what its operator types: cameras with sizes or pictures, a state, words.

Knows no daemon and no policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np
import PIL.Image

from stillframe_client.robot_state import state_field
from stillframe_client.wire.names import MAX_STATE_NUMBERS

if TYPE_CHECKING:
    from stillframe_client.frames import Picture

    StateValues = Union[List[float], Dict[str, float]]

MAX_SIDE_PX = 16_384
INSTRUCTION = "stay where you are"
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True)
class RobotFrame:
    """What the robot would send."""

    pictures: Mapping[Optional[str], Picture] = field(default_factory=dict)  # by camera; None: one without a name
    state: Optional[StateValues] = None
    measured: bool = False  # the state's numbers are a robot's own, not stand-ins
    instruction: Optional[str] = None
    unnorm_key: Optional[str] = None

    @property
    def words(self) -> str:
        """The instruction that is sent."""
        return INSTRUCTION if self.instruction is None else self.instruction


def parse_camera(text: str) -> Tuple[Optional[str], Picture]:
    """'NAME=480x640' (height, width: a black picture) or 'NAME=FILE' (PNG, JPEG); without NAME= the only camera.

    Raises ValueError.
    """
    name, named, what = text.rpartition("=")
    if named and not name:
        raise ValueError(f"{text!r} names no camera; expected NAME=HEIGHTxWIDTH or NAME=FILE")
    size = _SIZE.fullmatch(what)
    return name or None, _read(what) if size is None else _black(int(size[1]), int(size[2]))


def parse_state(text: str) -> Tuple[StateValues, bool]:
    """'8' (as many zeros), 'x,y,z' (zeros by name), '0.1,0.2' or 'x=0.1,y=0.2' (numbers that a robot measured).

    Also returns whether they were measured. Raises ValueError.
    """
    if text.isdecimal():
        if not 1 <= int(text) <= MAX_STATE_NUMBERS:
            raise ValueError(f"{text} numbers; expected 1 to {MAX_STATE_NUMBERS}")
        return [0.0] * int(text), False
    parts = [part.strip() for part in text.split(",")]
    if all("=" in part for part in parts):
        named = {part.partition("=")[0].strip(): _float(part.partition("=")[2]) for part in parts}
        return _checked(named, parts), True
    if _is_number(parts[0]):
        return _checked([_float(part) for part in parts], parts), True
    return _checked(dict.fromkeys(parts, 0.0), parts), False


def _checked(state: StateValues, parts: List[str]) -> StateValues:
    if "" in state or len(state) != len(parts):
        raise ValueError("a name is empty or stands twice; expected N, NAME,NAME,... or 0.1,0.2,...")
    return state_field("the state", state)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _float(text: str) -> float:
    if not _is_number(text):
        raise ValueError(f"{text.strip()!r} is no number; expected N, NAME,NAME,... or 0.1,0.2,...")
    return float(text)


def _black(height: int, width: int) -> Picture:
    if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
        raise ValueError(f"{height}x{width} is no size of a picture; expected 1 to {MAX_SIDE_PX} on a side")
    return np.zeros((height, width, 3), np.uint8)


def _read(path: str) -> Picture:
    try:
        with PIL.Image.open(path, formats=("PNG", "JPEG")) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{path!r} is neither HEIGHTxWIDTH nor a PNG or JPEG that can be read ({error})") from error
