"""One arm's answers against the plain ones: equal, within rounding, or how far apart; and whether a promise is broken.

Knows answers and the rule; no model. The rule, in the words that a certificate carries, is RULE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import PolicyInfo, Step
from stillframe.engine.drift import chunk_distances
from stillframe.tools.certify.arms import ArmSpec, Promise
from stillframe.tools.certify.near_ties import NearTie

Verdict = Literal["equal", "within rounding", "approximate", "broken", "not here"]

# Normalised units, of which an action's whole range is 2: how far rounding may move the numbers of a chunk that is
# computed, not chosen among tokens: 8192 and 8 units in the last place of 1. Tokens have a rule of their own.
CHUNK_BOUND = MappingProxyType({"float32": 2.0**-10, "bfloat16": 2.0**-4})
RULE = (
    "equal: in every tick the numbers and tokens answered are the plain ones, to the bit.",
    "within rounding: they are not in every tick. Where an action is made of tokens, the first token that differs was "
    "chosen among two that rounding can turn: the plain one led by no more logits than `reach` (256 units in the last "
    "place of the hidden row's length times the output head's longest row in float32, 1 in bfloat16). Where it is not, "
    "no number is further off than `bound` in normalised units.",
    "approximate: they are not, and nothing of the kind is promised: drift is the furthest number of a tick's chunk, "
    "in normalised units, of which a number's whole range (q01 to q99) is 2.",
    "broken: a tick is further off than was promised. Promised is: equal, to the bit; as reported, to the bit where "
    "the answer says `bit_equal`, else within rounding; rounding; or none. Where plain answers themselves do not "
    "repeat to the bit, on a GPU, what is promised to the bit is held to rounding.",
)


@dataclass(frozen=True)
class Took:
    """What one pass took."""

    wall_ms: float
    cpu_ms: float  # of the thread that ran it: all of its work, on a CPU where torch has one thread


@dataclass(frozen=True)
class TickComparison:
    """One tick of one arm."""

    tick: int
    took: Took
    equal: bool
    tokens: int  # of an answer; 0: it is not made of tokens
    tokens_differ: int
    actions_differ: int  # of the chunk, in any number
    apart: NDArray[np.float64]  # [actions that both have, action_dim] in the robot's units
    distances: NDArray[np.float64]  # the same in normalised units
    to_the_bit: bool  # whether that is what the arm promises of this tick
    near_tie: NearTie | None  # of the first token that differs, where equality is promised
    reuse_ratio: float
    passes: int

    @property
    def drift(self) -> float:
        """The furthest number."""
        return float(self.distances.max())

    def within_rounding(self, bound: float) -> bool:
        """Whether rounding can have made the difference; `bound` in normalised units."""
        if self.equal:
            return True
        return self.near_tie.explains if self.near_tie is not None else self.tokens_differ == 0 and self.drift <= bound

    def kept(self, promise: Promise, bound: float, *, repeatable: bool) -> bool:
        """Whether what was promised of it holds."""
        if promise == "none":
            return True
        return self.equal if self.to_the_bit and repeatable else self.within_rounding(bound)


def compared(
    spec: ArmSpec, tick: int, plain: Step, other: Step, took: Took, tie: NearTie | None, info: PolicyInfo
) -> TickComparison:
    """One answer against the plain one. Raises StillframeError for actions of another length."""
    was, now = plain.chunk, other.chunk
    distances = chunk_distances(was, now, info)
    apart = np.abs(was.actions[: len(distances)] - now.actions[: len(distances)])
    others = int((was.tokens != now.tokens).sum()) if was.tokens.shape == now.tokens.shape else len(was.tokens)
    same_shape = was.actions.shape == now.actions.shape
    cache = other.report.cache
    return TickComparison(
        tick=tick,
        took=took,
        equal=same_shape and others == 0 and bool((was.actions == now.actions).all()),
        tokens=len(was.tokens),
        tokens_differ=others,
        actions_differ=int((was.actions[: len(apart)] != now.actions[: len(apart)]).any(axis=1).sum()),
        apart=apart,
        distances=distances,
        to_the_bit=spec.promise == "equal" or (spec.promise == "as reported" and cache.bit_equal),
        near_tie=tie,
        reuse_ratio=cache.reuse_ratio,
        passes=other.report.passes,
    )


def broken_ticks(
    promise: Promise, ticks: Sequence[TickComparison], bound: float, *, repeatable: bool
) -> list[TickComparison]:
    """Those that are further off than was promised."""
    return [tick for tick in ticks if not tick.kept(promise, bound, repeatable=repeatable)]


def verdict(promise: Promise, ticks: Sequence[TickComparison], bound: float, *, repeatable: bool) -> Verdict:
    """What a certificate says of an arm."""
    if broken_ticks(promise, ticks, bound, repeatable=repeatable):
        return "broken"
    if all(tick.equal for tick in ticks):
        return "equal"
    return "approximate" if promise == "none" else "within rounding"
