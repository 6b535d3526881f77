"""Which action of the newest answer is due, and when: answers are aligned with the time at which their frame was taken.

Knows no connection and no arm; times are handed in. ChunkPlan knows what is left of a chunk, and what older ones say.
A single action that comes over a step late is shortened by what has been played since its own step: the frame behind it
did not show that movement, and would have it made twice. It is never made longer, and never turned round: what
overshoots is for the next frame to see.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Deque, Optional, Tuple

import numpy as np

from stillframe_client.chunk_plan import ChunkPlan, due_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Action = NDArray[np.float64]  # [7]

REMEMBERED = 64  # actions: more than an answer may be old


class Player:
    """Plays chunks [horizon, 7], one action each `step_s`; a newer answer takes the place of what is left."""

    def __init__(self, step_s: float, blend: str = "none"):
        """`blend`: what becomes of steps that older chunks spoke of too, see ChunkPlan. Raises ValueError."""
        self._step_s = step_s
        self._plan = ChunkPlan(blend)
        self._observed_s = -math.inf  # when the frame behind the chunk was taken
        self._due_s = 0.0
        self._played_s = -math.inf  # when the last action was given
        self._played: Deque[Tuple[float, NDArray[np.float64]]] = deque(maxlen=REMEMBERED)  # when, and its movement [6]

    def take(self, actions: NDArray[np.float64], observed_s: float, now_s: float) -> bool:
        """Play these from now on; False where an answer to a newer frame is here already.

        Of a chunk, as many actions are skipped as were played since its frame, or as had their time go by on the way. A
        single action is played however late it is, shortened where that is over a step: whether it is too old is the
        caller's to say.
        """
        if observed_s <= self._observed_s:
            return False
        gone, rest_s = 0, self._step_s / 2
        if len(actions) > 1:
            gone, rest_s = due_index(self._played_since(observed_s), now_s - observed_s, self._step_s), self._step_s
        elif now_s - observed_s > self._step_s:
            actions = actions.copy()
            asked, made = actions[0, :6], self._moved(observed_s, now_s - self._step_s)
            actions[0, :6] = np.clip(asked - made, np.minimum(asked, 0.0), np.maximum(asked, 0.0))
        self._plan.take(actions, gone)
        self._observed_s = observed_s
        # A newer answer cuts an action short by half at most: answers that come in a burst make the arm no faster. A
        # chunk goes on behind it.
        self._due_s = max(now_s, self._played_s + rest_s)
        return True

    @property
    def due_s(self) -> float:
        """When the next action is due; infinite where there is none."""
        return self._due_s if self.left else math.inf

    @property
    def left(self) -> int:
        """Actions that are still to be played."""
        return self._plan.left

    def next(self, now_s: float) -> Optional[Action]:
        """The action that is due by now, once; None where none is."""
        action = self._plan.next() if now_s >= self._due_s else None
        if action is not None:
            self._played_s, self._due_s = now_s, now_s + self._step_s
            self._played.append((now_s, action[:6]))
        return action

    def _played_since(self, time_s: float) -> int:
        """How many actions were given from then on."""
        return sum(at_s >= time_s for at_s, _ in self._played)

    def _moved(self, begin_s: float, end_s: float) -> NDArray[np.float64]:
        """The movement [6] that was played between two times, each action until the next one took its place."""
        total, until_s = np.zeros(6), math.inf
        for at_s, movement in reversed(self._played):
            lasted_s = min(at_s + self._step_s, until_s, end_s) - max(at_s, begin_s)
            total += movement * (max(lasted_s, 0.0) / self._step_s)
            until_s = at_s
        return total
