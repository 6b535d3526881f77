"""What a dialect is: how a family of clients says a frame, and how it reads an answer.

Knows no client. A dialect translates into the words of the native wire, which one reader judges for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stillframe.domain import ActionChunk, PolicyInfo
from stillframe.errors import Internal
from stillframe.web.http.reply_metadata import Report

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """A frame in the words of the native wire, and where its client said them."""

    fields: Fields
    places: Mapping[str, str] = field(
        default_factory=dict
    )  # JSON pointer in `fields` -> in what the client sent; absent: the same
    keys: Mapping[str, str] = field(default_factory=dict)  # camera -> the client's key of its picture, where it has one


@dataclass(frozen=True)
class Answer:
    """An answered frame, as far as a client may be told of it."""

    chunk: ActionChunk
    model: str
    timing_ms: Mapping[str, float]  # stage -> milliseconds, in the order they ran; last: total
    report: Report  # what was reused, what is kept of older frames, which frame of which session it was
    late: bool = False  # past the frame's max_age_ms
    replayed: bool = False  # the answer that this frame got before
    echo: Mapping[str, Any] = field(default_factory=dict)  # what the client wants to see again


class Dialect(Protocol):
    """One family of clients."""

    @property
    def name(self) -> str:
        """For metrics and logs; one of a few."""
        ...

    def translate(self, fields: Fields, info: PolicyInfo) -> Said:
        """Say the frame in native words. Raises RequestError for what has none."""
        ...

    def write(self, answer: Answer) -> Any:
        """The document that answers it, for the codec of the request. Raises Internal rather than send NaN."""
        ...


def finite(chunk: ActionChunk) -> ActionChunk:
    """Raise Internal (non-finite-action) rather than let NaN or infinity reach a robot."""
    if not np.isfinite(chunk.actions).all():
        raise Internal("non-finite-action", "The policy returned NaN or infinity; stop the robot and look at the log.")
    return chunk
