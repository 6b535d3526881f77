"""openpi's observations: which keys hold words and pictures, and how an array becomes a uint8 picture.

Knows no camera of a policy, no socket and no codec. Source: openpi's `_parse_image` and its example clients.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Tuple

import numpy as np
from numpy.typing import NDArray

INSTRUCTION_KEYS = ("prompt", "instruction", "task")  # the first one present counts
NESTED_KEYS = ("images", "observation")  # maps that hold the pictures, as ALOHA's clients send them
PASSED_ON = ("unnorm_key", "max_age_ms", "slack_ms", "reuse")  # stillframe's own fields
CHANNELS = (3, 4)  # RGB, RGBA
_ROUNDING = 1e-5  # by which floats may leave 0 to 1


class FloatRangeError(ValueError):
    """Floats outside 0 to 1, NaN or infinity: clipped they would be another picture."""

    def __init__(self, low: float, high: float):
        super().__init__(f"floats from {low:g} to {high:g}")
        self.low, self.high = low, high


def flat_items(obs: Mapping[str, Any], above: str = "") -> Iterator[Tuple[str, Any]]:
    """Yield keys and values, those of nested maps under 'map/key'."""
    for key, value in obs.items():
        if key in NESTED_KEYS and isinstance(value, Mapping):
            yield from flat_items(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value


def unbatched(array: NDArray[Any]) -> NDArray[Any]:
    """Return the only picture of a batch of one; any other array as it is."""
    return array[0] if array.ndim == 4 and array.shape[0] == 1 else array


def channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """Return [channels, height, width] as [height, width, channels]; any other array as it is."""
    first = array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS
    return array.transpose(1, 2, 0) if first else array


def to_uint8(array: NDArray[Any]) -> NDArray[Any]:
    """Floats from 0 to 1 become 0 to 255, truncated as openpi does; other types stay. Raises FloatRangeError."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is in no range, and both are NaN then
        raise FloatRangeError(low, high)
    return (array.clip(0, 1) * 255).astype(np.uint8)
