"""The order in which variants answer one frame, and the time of an answer.

Knows names and a clock; no model. Each answers once, and another one is first each time: caches are warm for all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import TypeVar

from stillframe.stopwatch import Clock

NameT = TypeVar("NameT")
ResultT = TypeVar("ResultT")


def rotated(names: Sequence[NameT], turn: int) -> list[NameT]:
    """All names in their order, beginning `turn` places later."""
    shift = turn % len(names)
    return [*names[shift:], *names[:shift]]


def interleaved(names: Sequence[NameT], turn: int) -> list[NameT]:
    """Rotated, and with changing neighbours: none always follows the same one, which may leave a cold cache."""
    count = len(names)
    strides = [stride for stride in range(1, max(2, count)) if gcd(stride, count) == 1]
    stride = strides[turn % len(strides)]
    return [names[(turn + place * stride) % count] for place in range(count)]


def timed(answer: Callable[[], ResultT], clock: Clock) -> tuple[float, ResultT]:
    """How long a call takes, ms, and its result."""
    began_s = clock()
    result = answer()
    return (clock() - began_s) * 1e3, result
