"""Drafts: what a session may do next, guessed from its last actions in several ways; the best way so far is taken.

Knows tokens as numbers that lie near each other where the motions do; no model, and nobody's session but its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from stillframe.errors import ConfigError
from stillframe.models.llama.draft import Draft, Ids
from stillframe.reuse.settings import DecodingSettings

Past = deque[Ids]  # the session's actions, the last one last, one at least

HISTORY = 64  # actions that are remembered: six seconds at 10 Hz
MEMORY = 0.9  # of a way's merit that is left after a frame: about the last ten count
GRIPPER = "gripper"
STILL = "still"  # nothing is known of the robot: it stays where it is


def previous(past: Past) -> Ids:
    """The same again."""
    return past[-1]


def steady(past: Past) -> Ids:
    """What changed goes on changing. May be no token at all."""
    return past[-1] if len(past) == 1 else 2 * past[-1] - past[-2]


def recalled(past: Past) -> Ids:
    """What followed when the session last did what it has just done, or what is most like it."""
    if len(past) == 1:
        return past[-1]
    alike = (np.stack(past)[:-1] == past[-1]).sum(axis=1)
    latest = len(alike) - 1 - int(alike[::-1].argmax())
    return past[latest + 1]


# The first wins where several did equally well.
WAYS: Mapping[str, Callable[[Past], Ids]] = MappingProxyType(
    {"previous": previous, "steady": steady, "recalled": recalled}
)


class Drafts:
    """One session's guesses, and how well each way to guess has done: a wrong one costs passes, and nothing else."""

    def __init__(self) -> None:
        self.merits = dict.fromkeys(WAYS, 0.0)  # tokens that were right from the first on, a running mean
        self._past: Past = deque(maxlen=HISTORY)
        self._guesses: dict[str, Ids] = {}

    def guess(self, still: Ids) -> tuple[str, Ids]:
        """How the next action's tokens are guessed, and the guess; `still` where the session has done nothing yet."""
        if not self._past or self._past[-1].shape != still.shape:
            return STILL, still
        self._guesses = {name: way(self._past) for name, way in WAYS.items()}
        best = max(self.merits, key=self.merits.__getitem__)
        return best, self._guesses[best]

    def saw(self, ids: Ids) -> None:
        """Take in the action that it was: every way is judged, whichever was taken."""
        for name, guess in self._guesses.items():
            right = int(np.cumprod(guess == ids).sum())
            self.merits[name] = MEMORY * self.merits[name] + (1 - MEMORY) * right
        self._guesses = {}
        if self._past and self._past[-1].shape != ids.shape:
            self._past.clear()
        self._past.append(ids)


class Drafting:
    """Makes drafts as a deployment's settings say."""

    def __init__(self, settings: DecodingSettings, action_names: Sequence[str], vocabulary: int):
        """Raises ConfigError for a radius that does not fit the checkpoint's actions."""
        self._mode = settings.draft
        self._last_id = vocabulary - 1
        self._radius = _radius(settings.radius, action_names)

    def draft(self, drafts: Drafts | None, still: Ids) -> Draft:
        """A guess for the next action; `drafts` None: of no session."""
        way, ids = drafts.guess(still) if drafts is not None else (STILL, still)
        return Draft(np.clip(ids, 0, self._last_id), self._mode, np.resize(self._radius, len(ids)), way)


def _radius(given: Sequence[int], names: Sequence[str]) -> Ids:
    """[action_dim]: what was given for each dimension, or for all; a gripper is open or closed, never nearly so."""
    moved = [name for name in names if name != GRIPPER]
    radii = iter(given if len(given) != 1 else [*given] * len(moved))
    if len(given) not in (1, len(moved)):
        expected = f"expected one number, or {len(moved)}: {', '.join(moved)}"
        raise ConfigError(f"decoding.radius is {list(given)}; {expected}")
    return np.array([0 if name == GRIPPER else next(radii) for name in names], np.int64)
