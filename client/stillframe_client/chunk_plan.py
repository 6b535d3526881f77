"""ChunkPlan: the actions that are still to be played, out of the newest chunk and what older ones said of its steps.

Knows no clock, no connection and no robot: it counts actions. `due_index` says where a late chunk is taken up, the plan
what its actions are there. Adaptive blending is CogACT's (sim_cogact/adaptive_ensemble.py), chunk by chunk.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Deque, List, Optional, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Actions = NDArray[np.float64]  # [horizon, action_dim]
    Action = NDArray[np.float64]  # [action_dim]

BLENDS = ("none", "linear", "adaptive")
ALPHA = 0.1  # how much likeness to the newest chunk counts: CogACT's
CHUNKS = 16  # that have a say at most, as many as CogACT's horizon


def check_blend(blend: str) -> str:
    """Return one of BLENDS. Raises ValueError for anything else."""
    if blend not in BLENDS:
        raise ValueError(f"blend is {blend!r}; expected one of {', '.join(BLENDS)}.")
    return blend


def due_index(played: int, elapsed_s: float, step_s: float, grace: int = 0) -> int:
    """Index of a chunk's action that is due: what was `played` since its frame is done, what its time went by is past.

    `elapsed_s` is the time since the chunk's first action was due, of which `grace` steps are forgiven: a step that
    comes a little late skips nothing.
    """
    return max(played, math.floor(elapsed_s / step_s) - grace, 0)


class ChunkPlan:
    """Actions in their order, each given once; a newer chunk takes the place of what is left.

    Where both say something of a step: "none" takes the newer chunk's word; "linear" goes from what was planned to the
    newer chunk over all steps that both reach; "adaptive" takes the mean over every chunk that reaches the step, each
    weighted by the cosine of its action and the newest one. Numbers are blended as they are, the gripper's too, and
    angles as if they did not wrap. A chunk of one action is never blended.
    """

    def __init__(self, blend: str = "none"):
        """Raises ValueError for another than BLENDS."""
        self._blend = check_blend(blend)
        self._actions: Optional[Actions] = None  # of the newest chunk, blended
        self._index = 0
        self._heard: Deque[Tuple[Actions, int]] = deque(maxlen=CHUNKS)  # as they came; their index less ours

    @property
    def index(self) -> int:
        """Index of the next action in its chunk."""
        return self._index

    @property
    def left(self) -> int:
        """Actions that are still to be given."""
        return 0 if self._actions is None else max(len(self._actions) - self._index, 0)

    def take(self, actions: Actions, due: int) -> None:
        """Go on with this chunk from its action `due`, in the place of the one that would be next now."""
        planned = None if self._actions is None else self._actions[self._index :]
        shift = self._index - due
        self._heard = deque(((said, at + shift) for said, at in self._heard), CHUNKS)
        self._actions, self._index = actions, due
        if len(actions) > 1:
            if self._blend == "linear" and planned is not None:
                self._actions = _crossfaded(planned, actions, due)
            elif self._blend == "adaptive":
                self._actions = _ensembled(list(self._heard), actions, due)
            self._heard.append((actions, 0))

    def skip_to(self, index: int) -> None:
        """Leave out what comes before `index`; never goes back."""
        self._index = max(self._index, index)

    def peek(self) -> Optional[Action]:
        """The action that is next; None where none is left."""
        if self._actions is None or not self.left:
            return None
        action: Action = self._actions[self._index]
        return action

    def next(self) -> Optional[Action]:
        """Give the next action; None where none is left."""
        action = self.peek()
        if action is not None:
            self._index += 1
        return action


def _crossfaded(planned: Actions, actions: Actions, due: int) -> Actions:
    """From `planned`, whose first is for the step of `actions[due]`, to `actions`, over what both reach."""
    steps = min(len(planned), max(len(actions) - due, 0))
    old, new = planned[:steps], actions[due : due + steps]
    share = (np.arange(1, steps + 1) / (steps + 1))[:, None]  # [steps, 1] of the new
    blended = actions.copy()
    blended[due : due + steps] = _between(old, new, old + share * (new - old))
    return blended


def _between(one: Actions, other: Actions, blended: Actions) -> Actions:
    """What was blended, without rounding beyond what either said."""
    within: Actions = np.clip(blended, np.minimum(one, other), np.maximum(one, other))
    return within


def _ensembled(heard: List[Tuple[Actions, int]], actions: Actions, due: int) -> Actions:
    """The actions from `due` on, each the mean of what all chunks say of its step."""
    blended = actions.copy()
    for index in range(due, len(actions)):
        older = [said[index + at] for said, at in reversed(heard) if 0 <= index + at < len(said)]
        if older:
            blended[index] = _weighted(np.stack([actions[index], *older]))
    return blended


def _weighted(said: Actions) -> Action:
    """The mean [action_dim] of rows [chunks, action_dim] by their likeness to the first."""
    lengths = np.linalg.norm(said, axis=1) * np.linalg.norm(said[0])
    weights = np.exp(ALPHA * (said @ said[0]) / (lengths + 1e-7))
    mean: Action = np.clip((weights / weights.sum()) @ said, said.min(axis=0), said.max(axis=0))
    return mean
