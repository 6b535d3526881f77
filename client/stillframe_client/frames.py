"""A frame's fields as the wire names them, whichever wire it is.

Knows no connection and no encoding: how a picture is written, the caller says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Union

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]  # [height, width, 3], RGB
    Pictures = Union[Picture, Mapping[str, Picture]]  # one picture, or camera name -> picture


def frame_fields(
    image: Pictures,
    instruction: str,
    write: Callable[[Picture], Any],
    *,
    unnorm_key: Optional[str],
    max_age_ms: Optional[float],
    reuse: Optional[str],
    t_obs_ns: Optional[int] = None,
) -> Dict[str, Any]:
    """Say what there is to say, and nothing of what there is not. Raises ValueError for what is of another kind."""
    fields: Dict[str, Any] = {}
    if isinstance(image, Mapping):
        fields["images"] = {text("A camera's name", name): write(picture) for name, picture in image.items()}
    else:
        fields["image"] = write(image)
    fields["instruction"] = text("instruction", instruction)
    said = {
        "unnorm_key": None if unnorm_key is None else text("unnorm_key", unnorm_key),
        "max_age_ms": None if max_age_ms is None else milliseconds("max_age_ms", max_age_ms),
        "reuse": None if reuse is None else text("reuse", reuse),
        "t_obs_ns": None if t_obs_ns is None else _whole("t_obs_ns", t_obs_ns),
    }
    return {**fields, **{name: value for name, value in said.items() if value is not None}}


def text(name: str, value: Any) -> str:
    """Return text as Python's own; numpy's is text too. Raises ValueError for all else, bytes included."""
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
    """Return a time in milliseconds, from 0. Raises ValueError for what is none."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}; expected milliseconds, a finite number from 0.")
    return value if type(value) is int else float(value)


def _whole(name: str, value: Any) -> int:
    number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not number or not -(2**63) <= value < 2**64:
        raise ValueError(f"{name} is {value!r:.40}; expected a whole number of nanoseconds in 64 bits.")
    return int(value)
