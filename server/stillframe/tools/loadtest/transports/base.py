"""What a robot needs of a wire: frames go out, and what becomes of each is told.

Knows no wire in particular.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from stillframe_client import ModelInfo

SIDE_PX, PATCH_PX, RADIUS_PX = 224, 28, 60
PICTURES = 40  # one turn of what moves: at 5 Hz eight seconds
JPEG_QUALITY = 90

Picture = NDArray[np.uint8]  # [height, width, 3]


def pictures() -> list[Picture]:
    """One turn of the moving thing; the last picture is followed by the first."""
    background = _background()
    return [_with_patch(background, 2 * math.pi * index / PICTURES) for index in range(PICTURES)]


def as_jpeg(picture: Picture) -> bytes:
    """As a camera would send it."""
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _background() -> Picture:
    """Soft shapes of many colours: 14 x 14 random ones, drawn large."""
    colours = np.random.default_rng(0).integers(40, 216, (14, 14, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(colours).resize((SIDE_PX, SIDE_PX), PIL.Image.Resampling.BICUBIC))


def _with_patch(background: Picture, angle: float) -> Picture:
    picture = background.copy()
    left, top = (round(SIDE_PX / 2 + RADIUS_PX * part - PATCH_PX / 2) for part in (math.cos(angle), math.sin(angle)))
    picture[top : top + PATCH_PX, left : left + PATCH_PX] = (200, 30, 30)
    return picture


INSTRUCTION = "pick up the red cube"
UNKNOWN = "unknown"  # the code of what is no problem document
OPEN_S = 20.0  # to connect, and to have a session


class FrameOutcome(StrEnum):
    """How a frame ended."""

    ANSWERED = "answered"
    SUPERSEDED = "superseded"
    PROBLEM = "problem"


@dataclass(frozen=True)
class FrameResult:
    """One frame's."""

    seq: int
    outcome: FrameOutcome
    code: str = ""  # of a problem
    reuse_ratio: float | None = None  # of an answer, where the wire tells


class ReplyHandler(Protocol):
    """Who is told what becomes of the frames. Called on the event loop."""

    def ended(self, ending: FrameResult) -> None:
        """A frame has come to its end."""
        ...

    def dismissed(self, why: str) -> None:
        """The daemon takes no more: it stops, or the connection is gone."""
        ...


class Transport(Protocol):
    """One robot's way to the daemon, and its session there."""

    async def open(self) -> None:
        """Connect, open the session. Raises PolicyError where there is nobody to talk to."""
        ...

    async def send(self, seq: int) -> None:
        """Send a frame, without waiting for its answer; waits where the wire takes no more. Never raises."""
        ...

    async def close(self) -> None:
        """End the session and disconnect. Never raises."""
        ...


@dataclass(frozen=True)
class Target:
    """The daemon that is asked, and what its robots see."""

    url: str
    model: ModelInfo
    views: Sequence[Picture]  # shown in turn
    jpegs: Sequence[bytes]  # the same as a camera sends them
    token: str | None = None

    max_age_ms: float | None = None  # of the frames; None: they say nothing of it

    def fields(self, seq: int) -> dict[str, Any]:
        """A frame, as the native wires take it."""
        jpeg = self.jpegs[seq % len(self.jpegs)]
        return {"images": dict.fromkeys(self.model.cameras, jpeg), "instruction": INSTRUCTION, **self.wishes()}

    def wishes(self) -> dict[str, Any]:
        """What every wire passes on: which statistics, where the policy does not know by itself, and the age limit."""
        said = {"max_age_ms": self.max_age_ms} if self.max_age_ms else {}
        return said if self.model.default_unnorm_key else {**said, "unnorm_key": self.model.unnorm_keys[0]}


@dataclass(frozen=True)
class Robot:
    """Whom a wire speaks for."""

    session_id: str
    realtime: bool
    target: Target


def parse_reply(seq: int, kind: Any, reply: Mapping[str, Any]) -> FrameResult:
    """The ending that a native reply tells of."""
    if kind == "action":
        cache = reply.get("cache")
        return FrameResult(
            seq, FrameOutcome.ANSWERED, reuse_ratio=cache.get("reuse_ratio") if isinstance(cache, dict) else None
        )
    problem = reply.get("problem")
    code = "superseded" if kind == "superseded" else str(problem.get("code") if isinstance(problem, dict) else UNKNOWN)
    return FrameResult(seq, FrameOutcome.SUPERSEDED if code == "superseded" else FrameOutcome.PROBLEM, code)
