"""The Dialect protocol: how a family of clients writes a frame and reads a reply.

Knows no client. A dialect translates into native fields, which one FrameParser validates for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stillframe.domain import ActionChunk, PolicyInfo
from stillframe.errors import Internal
from stillframe.web.http.parsing import Fields
from stillframe.web.http.reply_metadata import Report


@dataclass(frozen=True)
class NativeFrame:
    """A frame in native fields, and where each was in the client's message."""

    fields: Fields
    pointers: Mapping[str, str] = field(
        default_factory=dict
    )  # JSON pointer in `fields` -> in the client's message; absent: the same
    keys: Mapping[str, str] = field(default_factory=dict)  # camera -> the client's key of its picture


@dataclass(frozen=True)
class Reply:
    """The reply to a frame, before a dialect writes it."""

    chunk: ActionChunk
    model: str
    timing_ms: Mapping[str, float]  # stage -> milliseconds, in the order they ran; last: total
    report: Report  # what was reused, what is kept of older frames, which frame of which session it was
    late: bool = False  # past the frame's max_age_ms
    replayed: bool = False  # repeats the reply to the same frame
    echo: Mapping[str, Any] = field(default_factory=dict)  # the client's own fields, returned


class Dialect(Protocol):
    """One family of clients."""

    @property
    def name(self) -> str:
        """For metrics and logs; one of a few."""
        ...

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:
        """Translate the frame into native fields. Raises RequestError."""
        ...

    def write(self, answer: Reply) -> Any:
        """Return the reply document, for the codec of the request. Raises Internal rather than send NaN."""
        ...


def finite(chunk: ActionChunk) -> ActionChunk:
    """Raise Internal (non-finite-action) rather than let NaN or infinity reach a robot."""
    if not np.isfinite(chunk.actions).all():
        raise Internal("non-finite-action", "The policy returned NaN or infinity; stop the robot and look at the log.")
    return chunk
