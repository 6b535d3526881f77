"""Ledger: what was compared, stage by stage, how far apart it was, and what was left out and why.

Knows arrays; no model and no file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import CheckpointError, RequestError
from stillframe_lab.parity.golden import CannotCompare


@dataclass(frozen=True)
class Stage:
    """One step on the way from pictures to actions."""

    name: str
    tolerance: float  # largest absolute difference that is still rounding; 0: equal


@dataclass
class Compared:
    """A stage's cases so far."""

    stage: Stage
    cases: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    worst: float = 0.0  # inf: not finite, or of another shape
    worst_case: str = ""
    why: str = ""  # what the worst case has beside a distance

    @property
    def verdict(self) -> str:
        """ok, over, or - where nothing was compared."""
        return "over" if self.over else "ok" if self.cases else "-"


class Ledger:
    """One comparison."""

    def __init__(self, stages: Sequence[Stage]):
        """`stages` in the order in which a frame goes through them."""
        self.stages = {stage.name: Compared(stage) for stage in stages}
        self.left_out: dict[str, str] = {}  # case -> why

    def compare(self, stage: str, case: str, found: Any, expected: NDArray[Any]) -> None:
        """Note how far `found` is from `expected`; one of no numbers stands for what was not recorded."""
        ours, theirs = np.asarray(found), np.asarray(expected)
        if theirs.size == 0:
            return
        if ours.shape != theirs.shape:
            self._note(stage, case, math.inf, f"shape {ours.shape}, not {theirs.shape}")
            return
        distance = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0)
        finite = bool(np.isfinite(distance))
        self._note(stage, case, float(distance) if finite else math.inf, "" if finite else "not finite")

    def equal(self, stage: str, case: str, same: bool) -> None:  # noqa: FBT001 (what was found)
        """Note what is equal or not, and has no distance."""
        self._note(stage, case, 0.0 if same else math.inf, "" if same else "other bytes")

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Leave a case out where its input is missing or of no use, or the checkpoint cannot be asked for it."""
        try:
            yield
        except (CannotCompare, CheckpointError, RequestError) as error:
            self.left_out[name] = str(error)
        except (ValueError, TypeError, IndexError, RuntimeError) as error:  # of arrays in a form that no layout has
            self.left_out[name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

    @property
    def compared(self) -> bool:
        """Whether anything was."""
        return any(each.cases for each in self.stages.values())

    @property
    def first_over(self) -> Compared | None:
        """The first stage that differs by more than rounding: where to look."""
        return next((each for each in self.stages.values() if each.over), None)

    def _note(self, stage: str, case: str, distance: float, why: str) -> None:
        at = self.stages[stage]
        at.cases.add(case)
        if distance > at.stage.tolerance:
            at.over.add(case)
        if distance > at.worst or not at.worst_case:
            at.worst, at.worst_case, at.why = distance, case, why
