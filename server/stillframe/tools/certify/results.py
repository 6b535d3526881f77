"""From an arm's ticks to what a certificate says of it: counts, distances, times, the verdict.

Knows comparisons and the certificate's fields; no model and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stillframe.tools.certify.arms import ArmSpec
from stillframe.tools.certify.certificate import Answers, ArmResult, Distance, Drift, Tie, Times
from stillframe.tools.certify.compare import TickComparison, broken_ticks, verdict

MS_DIGITS = 3  # microseconds


def absent(spec: ArmSpec, why: str) -> ArmResult:
    """An arm that cannot be had here."""
    return ArmResult(
        name=spec.name, about=spec.about, promise=spec.promise, verdict="not here", why=why, answers=None, times=None
    )


def result(
    spec: ArmSpec,
    ticks: Sequence[TickComparison],
    sha256: str,
    names: Sequence[str],
    *,
    bound: float,
    repeatable: bool,
    plain_ms: float,
) -> ArmResult:
    """Of an arm that answered one tick at least; `names`: of an action's numbers; `plain_ms`: the plain arm's p50."""
    broken = broken_ticks(spec.promise, ticks, bound, repeatable=repeatable)
    return ArmResult(
        name=spec.name,
        about=spec.about,
        promise=spec.promise,
        verdict=verdict(spec.promise, ticks, bound, repeatable=repeatable),
        why=None,
        answers=_answers(ticks, sha256, names, [one.tick for one in broken]),
        times=_times([one.took_ms for one in ticks], spec.robots, plain_ms),
    )


def _answers(ticks: Sequence[TickComparison], sha256: str, names: Sequence[str], broken: list[int]) -> Answers:
    apart = np.concatenate([one.apart for one in ticks])  # [actions of all ticks, action_dim]
    distances = np.concatenate([one.distances for one in ticks])
    p50, p90, largest = (float(value) for value in np.percentile([one.drift for one in ticks], (50, 90, 100)))
    return Answers(
        ticks=len(ticks),
        promised_to_the_bit=sum(one.to_the_bit for one in ticks),
        equal=sum(one.equal for one in ticks),
        tokens=sum(one.tokens for one in ticks),
        tokens_differ=sum(one.tokens_differ for one in ticks),
        actions=len(apart),
        actions_differ=sum(one.actions_differ for one in ticks),
        distance={name: _distance(apart[:, at]) for at, name in enumerate(names)},
        drift=Drift(p50=p50, p90=p90, largest=largest, mean=float(distances.mean())),
        near_ties=[
            Tie(tick=one.tick, token=tie.token, lead=tie.lead, reach=tie.reach)
            for one in ticks
            if (tie := one.near_tie) is not None
        ],
        broken_ticks=broken,
        reuse_ratio=float(np.mean([one.reuse_ratio for one in ticks])),
        passes=float(np.mean([one.passes for one in ticks])),
        sha256=sha256,
    )


def _distance(apart: NDArray[np.float64]) -> Distance:
    return Distance(largest=float(apart.max()), mean=float(apart.mean()))


def p50_ms(ticks: Sequence[TickComparison]) -> float:
    """The median of what its passes took."""
    return float(np.median([one.took_ms for one in ticks]))


def _times(took_ms: Sequence[float], frames: int, plain_ms: float) -> Times:
    p50, p99, worst = (float(value) for value in np.percentile(took_ms, (50, 99, 100)))
    return Times(
        frames_per_pass=frames,
        p50_ms=round(p50, MS_DIGITS),
        p99_ms=round(p99, MS_DIGITS),
        worst_ms=round(worst, MS_DIGITS),
        jitter_ms=round(p99 - p50, MS_DIGITS),
        std_ms=round(float(np.std(took_ms)), MS_DIGITS),
        times_plain=round(plain_ms * frames / p50, MS_DIGITS),
    )
