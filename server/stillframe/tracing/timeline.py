"""When a frame was in which stage: from the times that it is answered with anyway.

Knows names and times; no span and no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of a frame, in seconds since its arrival."""

    name: str
    begin_s: float
    end_s: float


def timeline(
    arrival_ms: Mapping[str, float], submitted_ms: float, engine_ms: Mapping[str, float], answered_ms: float
) -> Iterator[Stage]:
    """The stages in the order in which they ran, none before the last one's end, none after the answer.

    `arrival_ms`: stages from the arrival on (receive, unpack), one right after the other. `engine_ms`: those after the
    frame was handed to the policy, `submitted_ms` after its arrival (queue, prepare, ... keep). All in milliseconds.
    """
    yield from _one_after_the_other(0.0, arrival_ms, answered_ms)
    yield from _one_after_the_other(submitted_ms, engine_ms, answered_ms)


def _one_after_the_other(begin_ms: float, stages_ms: Mapping[str, float], latest_ms: float) -> Iterator[Stage]:
    """Clocks of two threads are read a moment apart: what would go beyond `latest_ms` ends there."""
    at_ms = min(begin_ms, latest_ms)
    for name, duration_ms in stages_ms.items():
        end_ms = min(at_ms + duration_ms, latest_ms)
        yield Stage(name, at_ms / 1e3, end_ms / 1e3)
        at_ms = end_ms
