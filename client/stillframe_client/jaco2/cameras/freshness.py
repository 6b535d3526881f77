"""Whether the newest picture is one of now: when it came, and since when the same bytes come.

Knows no thread and no clock: times are given. By arrival here alone: a camera's own stamps are another clock's.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import numpy as np

from stillframe_client.jaco2.cameras.base import Frame, StaleFrame

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture
    from stillframe_client.jaco2.settings import CameraSettings


@dataclass(frozen=True, eq=False)
class Arrival:
    """The newest picture as the camera gave it."""

    frame: Frame
    digest: Optional[int]  # of its bytes; None: not looked at
    same_since_s: float  # arrival of the first of the pictures, up to this one, that have these bytes


def arrived(before: Optional[Arrival], picture: Picture, seq: int, now_s: float, *, look: bool) -> Arrival:
    """A picture [height, width, 3] that came now, after `before`; its bytes are compared where `look`."""
    digest = zlib.crc32(np.ascontiguousarray(picture).data) if look else None
    same = look and before is not None and before.digest == digest
    return Arrival(Frame(picture, seq, now_s), digest, before.same_since_s if same and before else now_s)


def check_fresh(newest: Arrival, now_s: float, settings: CameraSettings) -> None:
    """Raise StaleFrame where the newest picture is older than `age_s`, or the same one came for `frozen_s`."""
    age_s = now_s - newest.frame.time_s
    if age_s > settings.age_s:
        raise StaleFrame(f"the newest picture is {age_s:.2f} s old; expected one of the last {settings.age_s:g} s")
    same_s = newest.frame.time_s - newest.same_since_s
    if settings.frozen_s and same_s >= settings.frozen_s:
        raise StaleFrame(
            f"the camera is frozen: the same bytes came for {same_s:.1f} s; expected a change within "
            f"{settings.frozen_s:g} s (a recording or a simulation may stand still: frozen_s = 0)"
        )
