"""ActionCheck: what an action may be, by the contract that the policy gave. Every family's answer is held to it.

Knows shapes, statistics and token ids; not how an action was computed.

A data set's q01 and q99 are -1 and 1 of the normalised range, where a policy's demonstrations lie. A head that says
tokens cannot leave it; one that says numbers can say any. What lies beyond an end by no more than the policy's margin,
a multiple of half the range, may be the eagerness of a regression, and passes; what lies further is nothing that the
policy was shown, and is refused. A dimension that passes through unscaled, such as a gripper, goes from -1 or its q01,
whichever is lower, to 1 or its q99, whichever is higher, with the same margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import PolicyInfo
from stillframe.errors import Flaw, Internal, not_an_action, not_finite
from stillframe.models.actions import no_action
from stillframe.models.base import Decoded, Prepared

ROUNDING = 1e-6  # of the greater end: units are scaled by numbers that are rounded

Ends = NDArray[np.float64]  # [action_dim]


@dataclass(frozen=True)
class Range:
    """From where to where each dimension goes."""

    low: Ends
    high: Ends
    margin: float  # of half the range

    def worst(self, values: NDArray[np.float64]) -> int | None:
        """The dimension of [horizon, action_dim] that lies furthest outside, its margin included; None: none does."""
        half = (self.high - self.low) / 2
        slack = self.margin * half + ROUNDING * np.maximum(1.0, np.maximum(np.abs(self.low), np.abs(self.high)))
        beyond = np.abs(values - (self.low + half)) - half - slack
        outside = beyond.max(axis=0)
        return int(outside.argmax()) if (outside > 0).any() else None


class ActionCheck:
    """One policy's contract."""

    def __init__(self, info: PolicyInfo):
        self._shape = (info.chunk_horizon, len(info.action_names))
        self._names = info.action_names
        self._ranges = {key: _ranges(entry, info.action_margin) for key, entry in info.norm_stats.items()}

    def refusal(self, prepared: Prepared, decoded: Decoded, faults: Sequence[Internal] = ()) -> Internal | None:
        """Why it is no action; None: it is one. `faults`: what its passes found wrong, of its `Draft`."""
        known = [*faults] if decoded.refusal is None else [decoded.refusal]
        if known:
            return known[0]
        if prepared.actions is not None and (refusal := no_action(decoded.chunk.tokens, prepared.actions)):
            return refusal
        return self._of_numbers(decoded)

    def _of_numbers(self, decoded: Decoded) -> Internal | None:
        """Shape, then finiteness, then range, of the normalised numbers and of those in the robot's units."""
        units, actions = (np.asarray(each) for each in (decoded.normalised, decoded.chunk.actions))
        if units.shape != self._shape or actions.shape != self._shape or not _real(units) or not _real(actions):
            found = f"{actions.shape}, normalised {units.shape}"
            return not_an_action(Flaw.WRONG_SHAPE, f"The policy returned {found}; expected numbers {self._shape}.")
        if not (np.isfinite(units).all() and np.isfinite(actions).all()):
            return not_finite()
        for what, values, within in zip(
            ("normalised", "in its units"),
            (units, actions),
            self._ranges.get(decoded.chunk.unnorm_key, ()),
            strict=False,
        ):
            at = within.worst(values)
            if at is not None:
                return self._out_of_range(at, what, values, within)
        return None

    def _out_of_range(self, at: int, what: str, values: NDArray[np.float64], within: Range) -> Internal:
        action = int(np.abs(values[:, at]).argmax())
        found = f"{self._names[at]} = {values[action, at]:g} {what}" + f" in action {action}" * (len(values) > 1)
        expected = f"its statistics go from {within.low[at]:g} to {within.high[at]:g}"
        return not_an_action(Flaw.OUT_OF_RANGE, f"The policy said {found}; {expected}.")


def _real(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "fiu"


def _ranges(entry: Mapping[str, Any], margin: float) -> tuple[Range, Range]:
    """Of normalised numbers, and of those in the robot's units."""
    q01, q99 = (np.asarray(entry[name], np.float64) for name in ("q01", "q99"))
    mask = np.asarray(entry.get("mask", True), np.bool_)
    low, high = np.minimum(q01, q99), np.maximum(q01, q99)
    low, high = np.where(mask, low, np.minimum(low, -1.0)), np.where(mask, high, np.maximum(high, 1.0))
    return Range(np.where(mask, -1.0, low), np.where(mask, 1.0, high), margin), Range(low, high, margin)
