"""How many robots a daemon serves in time: twice as many until it does not, then between the two.

Knows a way to try a number; not how it is tried.
"""

from __future__ import annotations

from collections.abc import Callable

SHARE = 0.995  # of the frames, answered within the deadline


def find_capacity(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that holds, 0 for none; what holds is taken to hold for all smaller ones."""
    held, failed = 0, 1
    while failed <= most and holds(failed):
        held, failed = failed, failed * 2
    failed = min(failed, most + 1)
    while failed - held > 1:
        middle = (held + failed) // 2
        held, failed = (middle, failed) if holds(middle) else (held, middle)
    return held
