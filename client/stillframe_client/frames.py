"""A frame's options, and its fields as every wire names them.

Knows no connection and no picture encoding: the caller passes a function that writes a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Union

import numpy as np

from stillframe_client.robot_state import state_field
from stillframe_client.rtc import rtc_field

if TYPE_CHECKING:
    from typing import TypedDict

    from numpy.typing import NDArray

    from stillframe_client.robot_state import State
    from stillframe_client.rtc import RtcField

    class FrameKeywords(TypedDict, total=False):
        """FrameOptions as keywords of a call."""

        unnorm_key: Optional[str]
        max_age_ms: Optional[float]
        encoding: Optional[str]
        reuse: Optional[str]
        t_obs_ns: Optional[int]
        slack_ms: Optional[float]
        state: Optional[State]
        rtc: Optional[RtcField]
        masks: Optional[Masks]

    Picture = NDArray[np.uint8]  # [height, width, 3], RGB
    Pictures = Union[Picture, Mapping[str, Picture]]  # one picture, or camera name -> picture
    Masks = Mapping[str, NDArray[Any]]  # camera name -> [height, width] bool, or uint8 of 0 and 1


@dataclass(frozen=True)
class FrameOptions:
    """What a call may say of its frame beside picture and instruction; None: not said."""

    unnorm_key: Optional[str] = None  # statistics that the action is scaled by
    max_age_ms: Optional[float] = None  # beyond this age the frame is not computed
    encoding: Optional[str] = None  # of its pictures: raw, png or jpeg; None: the client's
    reuse: Optional[str] = None  # mode; None: the client's
    t_obs_ns: Optional[int] = None  # the caller's time stamp, which comes back in the reply
    slack_ms: Optional[float] = None  # for how long the robot has actions left to play: others may go first
    state: Optional[Any] = None  # of the robot: numbers in the policy's order, or by its names
    rtc: Optional[Any] = None  # what the chunk goes on with: an Rtc, or a mapping of its fields
    masks: Optional[Any] = None  # what matters in each picture: camera name -> [height, width], 0 where nothing does


def frame_fields(
    image: Pictures, instruction: str, write: Callable[[Picture], Any], options: FrameOptions
) -> Dict[str, Any]:
    """The fields that were given. Raises ValueError for one of the wrong type."""
    fields: Dict[str, Any] = {}
    if isinstance(image, Mapping):
        fields["images"] = {text("A camera's name", name): write(picture) for name, picture in image.items()}
    else:
        fields["image"] = write(image)
    fields["instruction"] = text("instruction", instruction)
    checks: Dict[str, Callable[[str, Any], Any]] = {
        "unnorm_key": text,
        "max_age_ms": milliseconds,
        "reuse": text,
        "t_obs_ns": _whole,
        "slack_ms": milliseconds,
        "state": state_field,
        "rtc": rtc_field,
        "masks": _masks,
    }
    said = {name: getattr(options, name) for name in checks}
    return {**fields, **{name: checks[name](name, value) for name, value in said.items() if value is not None}}


def text(name: str, value: Any) -> str:
    """Return `value` as a plain str; numpy strings are accepted. Raises ValueError for anything else."""
    if isinstance(value, bytes):
        raise ValueError(f"{name} is bytes; expected text (str): decode it, as in value.decode('utf-8').")
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
        value = value.item()
    if not isinstance(value, str):
        raise ValueError(f"{name} is of type {type(value).__name__}; expected text (str).")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds half a surrogate pair, which is no Unicode: decode its bytes as UTF-8."
        ) from error
    return str(value)


def milliseconds(name: str, value: Any) -> Union[int, float]:
    """Return a time in milliseconds, from 0. Raises ValueError for anything else."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}; expected milliseconds, a finite number from 0.")
    return value if type(value) is int else float(value)


def _masks(name: str, value: Any) -> Dict[str, NDArray[np.uint8]]:
    """Each mask as [height, width] uint8 of 0 and 1. Raises ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is of type {type(value).__name__}; expected a mapping of cameras' names and masks.")
    return {text("A camera's name", camera): _mask(f"{name}[{camera!r}]", mask) for camera, mask in value.items()}


def _mask(name: str, mask: Any) -> NDArray[np.uint8]:
    plain = isinstance(mask, np.ndarray) and mask.ndim == 2 and mask.dtype in (np.bool_, np.uint8)
    if not plain:
        found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ValueError(f"{name} is {found}; expected an array [height, width] of bool or uint8, as its picture is.")
    sent: NDArray[np.uint8] = np.not_equal(mask, 0).astype(np.uint8)
    return sent


def _whole(name: str, value: Any) -> int:
    number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not number or not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} is {value!r:.40}; expected a whole number of nanoseconds in 64 bits.")
    return int(value)
