"""A frame's fields as the wire names them, whichever wire it is.

Knows no connection and no encoding: how a picture is written, the caller says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Union

if TYPE_CHECKING:
    import numpy as np
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
    """Say what there is to say, and nothing of what there is not. Raises ValueError for what is no picture."""
    fields: Dict[str, Any] = {}
    if isinstance(image, Mapping):
        fields["images"] = {name: write(picture) for name, picture in image.items()}
    else:
        fields["image"] = write(image)
    fields["instruction"] = instruction
    said = {"unnorm_key": unnorm_key, "max_age_ms": max_age_ms, "reuse": reuse, "t_obs_ns": t_obs_ns}
    return {**fields, **{name: value for name, value in said.items() if value is not None}}
