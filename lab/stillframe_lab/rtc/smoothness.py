"""Jerk of commanded positions: their mean third difference, over all steps and at the seams between chunks.

Knows actions and steps; no robot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SPAN = 3  # steps of the hand in one third difference of its positions


def jerks(actions: Sequence[NDArray[np.float64]], hz: int) -> NDArray[np.float64]:
    """[steps - 2] magnitudes in m/s^3: of positions that the steps [dx, dy, dz, ...] add up to.

    The k-th is of the steps k, k + 1 and k + 2.
    """
    steps = np.stack(actions)[:, :3] if len(actions) else np.empty((0, 3))
    if len(steps) < SPAN:
        return np.empty(0)
    magnitudes: NDArray[np.float64] = np.linalg.norm(np.diff(steps, n=2, axis=0), axis=1) * float(hz) ** 3
    return magnitudes


def at_seams(values: NDArray[np.float64], seams: Sequence[int]) -> NDArray[np.float64]:
    """Those of `jerks` that have steps of both chunks: a seam's first step is out of the newer one."""
    crossing = sorted({at for seam in seams for at in range(seam - SPAN + 1, seam) if 0 <= at < len(values)})
    return values[crossing]
