"""Which action of the newest answer is due, and when: answers are aligned with the time at which their frame was taken.

Knows no connection and no arm; times are handed in. A single action that comes over a step late is shortened by what
has been played since its own step: the frame behind it did not show that movement, and would have it made twice. It
is never made longer, and never turned round: what overshoots is for the next frame to see.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Deque, Optional, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Action = NDArray[np.float64]  # [7]

REMEMBERED = 64  # actions: more than an answer may be old


class Player:
    """Plays chunks [horizon, 7], one action each `step_s`; a newer answer takes the place of what is left."""

    def __init__(self, step_s: float):
        self._step_s = step_s
        self._actions: Optional[NDArray[np.float64]] = None
        self._index = 0
        self._observed_s = -math.inf  # when the frame behind the chunk was taken
        self._due_s = 0.0
        self._played_s = -math.inf  # when the last action was given
        self._played: Deque[Tuple[float, NDArray[np.float64]]] = deque(maxlen=REMEMBERED)  # when, and its movement [6]

    def take(self, actions: NDArray[np.float64], observed_s: float, now_s: float) -> bool:
        """Play these from now on; False where an answer to a newer frame is here already.

        Of a chunk, the actions whose time went by on the way are skipped. A single action is played however late it is,
        shortened where that is over a step: whether it is too old is the caller's to say.
        """
        if observed_s <= self._observed_s:
            return False
        gone = math.floor((now_s - observed_s) / self._step_s) if len(actions) > 1 else 0
        if len(actions) == 1 and now_s - observed_s > self._step_s:
            actions = actions.copy()
            asked, made = actions[0, :6], self._moved(observed_s, now_s - self._step_s)
            actions[0, :6] = np.clip(asked - made, np.minimum(asked, 0.0), np.maximum(asked, 0.0))
        self._actions, self._observed_s, self._index = actions, observed_s, gone
        # A newer answer cuts an action short by half at most: answers that come in a burst make the arm no faster.
        self._due_s = max(now_s, self._played_s + self._step_s / 2)
        return True

    @property
    def due_s(self) -> float:
        """When the next action is due; infinite where there is none."""
        return self._due_s if self.left else math.inf

    @property
    def left(self) -> int:
        """Actions that are still to be played."""
        return 0 if self._actions is None else max(len(self._actions) - self._index, 0)

    def next(self, now_s: float) -> Optional[Action]:
        """The action that is due by now, once; None where none is."""
        if self._actions is None or not self.left or now_s < self._due_s:
            return None
        action: Action = self._actions[self._index]
        self._index += 1
        self._played_s, self._due_s = now_s, now_s + self._step_s
        self._played.append((now_s, action[:6]))
        return action

    def _moved(self, begin_s: float, end_s: float) -> NDArray[np.float64]:
        """The movement [6] that was played between two times, each action until the next one took its place."""
        total, until_s = np.zeros(6), math.inf
        for at_s, movement in reversed(self._played):
            lasted_s = min(at_s + self._step_s, until_s, end_s) - max(at_s, begin_s)
            total += movement * (max(lasted_s, 0.0) / self._step_s)
            until_s = at_s
        return total
