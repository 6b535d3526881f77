"""DraftProposer: guesses a session's next action from its last ones by several strategies; the best so far is taken.

Knows tokens as numbers that lie near each other where the motions do; no model, and one session only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from stillframe.engine.settings import DecodingSettings
from stillframe.errors import ConfigError
from stillframe.models.llama.draft import Draft, Ids

RecentActions = deque[Ids]  # the session's actions, the last one last, one at least

MOST_ACTIONS = 64  # of a session that are kept: six seconds at 10 Hz
SCORE_DECAY = 0.9  # of a strategy's score that is left after a frame: about the last ten count
GRIPPER = "gripper"
NO_MOTION = "still"  # the strategy before a first action: the robot stays where it is


def previous(actions: RecentActions) -> Ids:
    """The same again."""
    return actions[-1]


def steady(actions: RecentActions) -> Ids:
    """What changed goes on changing. May be no token at all."""
    return actions[-1] if len(actions) == 1 else 2 * actions[-1] - actions[-2]


def recalled(actions: RecentActions) -> Ids:
    """What followed when the session last did what it has just done, or what is most like it."""
    if len(actions) == 1:
        return actions[-1]
    alike = (np.stack(actions)[:-1] == actions[-1]).sum(axis=1)
    latest = len(alike) - 1 - int(alike[::-1].argmax())
    return actions[latest + 1]


# The first wins where several did equally well.
STRATEGIES: Mapping[str, Callable[[RecentActions], Ids]] = MappingProxyType(
    {"previous": previous, "steady": steady, "recalled": recalled}
)


class DraftProposer:
    """One session's guesses, and each strategy's score. A wrong guess costs passes, and nothing else."""

    def __init__(self) -> None:
        self.scores = dict.fromkeys(STRATEGIES, 0.0)  # tokens that were right from the first on, a running mean
        self._actions: RecentActions = deque(maxlen=MOST_ACTIONS)
        self._guesses: dict[str, Ids] = {}

    def guess(self, no_motion: Ids) -> tuple[str, Ids]:
        """The best strategy so far, and its guess of the next action's tokens; `no_motion` before a first action."""
        if not self._actions or self._actions[-1].shape != no_motion.shape:
            return NO_MOTION, no_motion
        self._guesses = {name: strategy(self._actions) for name, strategy in STRATEGIES.items()}
        best = max(self.scores, key=self.scores.__getitem__)
        return best, self._guesses[best]

    def observe(self, ids: Ids) -> None:
        """Score every strategy, whichever was taken, by the action that it was."""
        for name, guess in self._guesses.items():
            right = int(np.cumprod(guess == ids).sum())
            self.scores[name] = SCORE_DECAY * self.scores[name] + (1 - SCORE_DECAY) * right
        self._guesses = {}
        if self._actions and self._actions[-1].shape != ids.shape:
            self._actions.clear()
        self._actions.append(ids)


class DraftFactory:
    """Makes drafts by a deployment's settings."""

    def __init__(self, settings: DecodingSettings, action_names: Sequence[str], vocabulary: int):
        """Raises ConfigError for a radius that does not fit the checkpoint's actions."""
        self._mode = settings.draft
        self._last_id = vocabulary - 1
        self._radius = _radius(settings.radius, action_names)

    def draft(self, proposer: DraftProposer | None, no_motion: Ids) -> Draft:
        """A guess for the next action; `proposer` None: of no session. Nothing where an action has no tokens."""
        if not len(no_motion):
            return Draft(no_motion, "off")
        strategy, ids = proposer.guess(no_motion) if proposer is not None else (NO_MOTION, no_motion)
        return Draft(np.clip(ids, 0, self._last_id), self._mode, np.resize(self._radius, len(ids)), strategy)


def _radius(given: Sequence[int], names: Sequence[str]) -> Ids:
    """[action_dim]: what was given for each dimension, or for all; a gripper is open or closed, never nearly so."""
    moved = [name for name in names if name != GRIPPER]
    radii = iter(given if len(given) != 1 else [*given] * len(moved))
    if len(given) not in (1, len(moved)):
        expected = f"expected one number, or {len(moved)}: {', '.join(moved)}"
        raise ConfigError(f"decoding.radius is {list(given)}; {expected}")
    return np.array([0 if name == GRIPPER else next(radii) for name in names], np.int64)
