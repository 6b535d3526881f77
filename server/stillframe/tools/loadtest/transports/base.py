"""What a transport has to offer, the results that it reports, and the synthetic frames that are sent.

Knows no transport in particular.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import PIL.Image

from stillframe.tools.pictures import Picture, background, with_patch
from stillframe_client import ModelInfo

PICTURES = 40  # of one turn: eight seconds at 5 Hz
JPEG_QUALITY = 90
INSTRUCTION = "pick up the red cube"
UNKNOWN = "unknown"  # code of a reply that is no problem document
OPEN_S = 20.0  # to connect and open a session


class FrameOutcome(StrEnum):
    """What became of a frame."""

    ANSWERED = "answered"
    SUPERSEDED = "superseded"
    PROBLEM = "problem"


@dataclass(frozen=True)
class FrameResult:
    """The result of one frame."""

    seq: int
    outcome: FrameOutcome
    code: str = ""  # of a problem
    reuse_ratio: float | None = None  # of an answer, if the transport reports it


class ReplyHandler(Protocol):
    """Receives the result of each frame, on the event loop."""

    def on_result(self, result: FrameResult) -> None:
        """A frame was answered, superseded or refused."""
        ...

    def on_closed(self, why: str) -> None:
        """The daemon accepts no more frames: it is stopping, or the connection is lost."""
        ...


class Transport(Protocol):
    """One robot's connection and session."""

    async def open(self) -> None:
        """Connect and open the session. Raises PolicyError if the daemon cannot be reached."""
        ...

    async def send(self, seq: int) -> None:
        """Send a frame without waiting for its answer; waits while the transport is full. Never raises."""
        ...

    async def close(self) -> None:
        """End the session and disconnect. Never raises."""
        ...


@dataclass(frozen=True)
class Target:
    """The daemon under test, and the pictures that are sent."""

    url: str
    model: ModelInfo
    views: Sequence[Picture]  # sent in turn
    jpegs: Sequence[bytes]  # the same, encoded
    token: str | None = None
    max_age_ms: float | None = None  # of the frames; None: not sent

    def fields(self, seq: int) -> dict[str, Any]:
        """A frame's fields for the native transports."""
        jpeg = self.jpegs[seq % len(self.jpegs)]
        return {"images": dict.fromkeys(self.model.cameras, jpeg), "instruction": INSTRUCTION, **self.options()}

    def options(self) -> dict[str, Any]:
        """Fields of every transport: the age limit, a robot at rest if the policy reads its state, and unnorm_key.

        unnorm_key only if the policy has no default.
        """
        options: dict[str, Any] = {"max_age_ms": self.max_age_ms} if self.max_age_ms else {}
        if self.model.state is not None:
            options["state"] = [0.0] * len(self.model.state.names)
        return options if self.model.default_unnorm_key else {**options, "unnorm_key": self.model.unnorm_keys[0]}


@dataclass(frozen=True)
class Robot:
    """The robot that a transport sends for."""

    session_id: str
    realtime: bool
    target: Target


def parse_reply(seq: int, kind: Any, reply: Mapping[str, Any]) -> FrameResult:
    """The result in a native reply."""
    if kind == "action":
        cache = reply.get("cache")
        return FrameResult(
            seq, FrameOutcome.ANSWERED, reuse_ratio=cache.get("reuse_ratio") if isinstance(cache, dict) else None
        )
    problem = reply.get("problem")
    code = "superseded" if kind == "superseded" else str(problem.get("code") if isinstance(problem, dict) else UNKNOWN)
    return FrameResult(seq, FrameOutcome.SUPERSEDED if code == "superseded" else FrameOutcome.PROBLEM, code)


def pictures() -> list[Picture]:
    """A patch on a circle, one turn; the last picture is followed by the first."""
    table = background()
    return [with_patch(table, 2 * math.pi * index / PICTURES) for index in range(PICTURES)]


def as_jpeg(picture: Picture) -> bytes:
    """Encode as a camera would."""
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
