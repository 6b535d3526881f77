"""Rtc: what a frame asks its chunk to be held to (real-time chunking), and its field on the wire.

Knows numbers of steps; no chunk, no clock and no connection.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Deque, Dict, Mapping, Optional

import numpy as np

from stillframe_client.wire import MAX_COUNT, RTC_FIELDS

if TYPE_CHECKING:
    from typing import Union

    RtcField = Union["Rtc", Mapping[str, Any]]

NEEDED = ("delay_steps", "executed_steps")
TIMED = 8  # answers whose delays count
UNKNOWN_SHARE = 4  # of a chunk, a quarter is taken for the delay until one is known


@dataclass(frozen=True)
class Rtc:
    """The next chunk goes on with the last one, of which the robot will have played `delay_steps` more by then."""

    delay_steps: int  # of the new chunk that will be past when it is taken up
    executed_steps: int  # of the last chunk that lie between its frame and this one: counted, not guessed from a clock
    horizon: Optional[int] = None  # of the new chunk's steps that are held at all; None: as many as the last reaches
    chunk_seq: Optional[int] = None  # `session.seq` of the last chunk's reply; None: the last that was answered


def rtc_field(name: str, value: RtcField) -> Dict[str, int]:
    """What a frame says. Raises ValueError for what is neither an Rtc nor a mapping of its fields."""
    if not isinstance(value, (Rtc, Mapping)):
        raise ValueError(f"{name} is of type {type(value).__name__}; expected an Rtc, or a mapping of its fields.")
    said = asdict(value) if isinstance(value, Rtc) else dict(value)
    unknown = [key for key in said if key not in RTC_FIELDS]
    missing = [key for key in NEEDED if said.get(key) is None]
    if unknown or missing:
        what = f"holds {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise ValueError(f"{name} {what}; expected {', '.join(RTC_FIELDS)}, the first two at least.")
    return {key: _steps(f"{name}.{key}", steps) for key, steps in said.items() if steps is not None}


def _steps(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{name} is {value!r:.40}; expected a whole number from 0.")
    return int(value)


class DelaySteps:
    """How many steps a robot plays between a frame and taking up its chunk: as many as at most of late.

    Steps are counted, so that neither a slow control loop nor a stopped clock misleads it.
    """

    def __init__(self) -> None:
        self._played: Deque[int] = deque(maxlen=TIMED)

    def record(self, steps: int) -> None:
        """Of a chunk that was taken up now. The first, which a cold policy may have answered, is left to the caller."""
        self._played.append(steps)

    def expected(self, horizon: int) -> int:
        """Of the next one, out of chunks of `horizon` actions: 0 to horizon - 1."""
        return min(max(self._played, default=horizon // UNKNOWN_SHARE), max(horizon - 1, 0))
