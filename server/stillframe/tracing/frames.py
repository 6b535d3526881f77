"""What a frame's path tells of it, if it is traced: the seam between the web room and OpenTelemetry.

Knows neither: protocols and plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stillframe.domain import StepReport
from stillframe.tracing.timeline import Stage

Headers = Mapping[str, str]  # of a request; of them traceparent and tracestate are read


@dataclass(frozen=True)
class AnsweredFrame:
    """What is known of a frame once there is an answer."""

    stages: Sequence[Stage]
    report: StepReport
    session_id: str | None  # None: stateless
    replayed: bool  # it repeats another frame, whose report this is


class FrameTrace(Protocol):
    """The trace of one frame that is sampled. Each call returns at once."""

    @property
    def exemplar(self) -> Mapping[str, str]:
        """What a histogram shows beside a value of this frame."""
        ...

    def answered(self, frame: AnsweredFrame) -> None:
        """There is an answer, which is now encoded."""
        ...

    def end(self, outcome: str, code: str | None) -> None:
        """The frame is over. `code`: of its problem; None: it has none."""
        ...


class FrameTracer(Protocol):
    """Begins traces."""

    def begin(self, route: str, headers: Headers, request_id: str, age_ms: float = 0.0) -> FrameTrace | None:
        """A frame arrived `age_ms` ago, in a request with these headers. None: it is not sampled."""
        ...

    def close(self) -> None:
        """Send what is left, within moments."""
        ...
