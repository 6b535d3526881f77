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

DIGITS = 3  # of milliseconds, and of ratios


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
    plain: Sequence[TickComparison],
    one_thread: bool,
) -> ArmResult:
    """Of an arm that answered one tick at least, beside the ticks of the plain one; `names`: of an action's numbers.

    `one_thread`: whether one thread does all the work, so that its CPU time says what other processes cannot change.
    """
    broken = broken_ticks(spec.promise, ticks, bound, repeatable=repeatable)
    return ArmResult(
        name=spec.name,
        about=spec.about,
        promise=spec.promise,
        verdict=verdict(spec.promise, ticks, bound, repeatable=repeatable),
        why=None,
        answers=_answers(ticks, sha256, names, [one.tick for one in broken]),
        times=_times(ticks, spec.robots, plain, one_thread=one_thread),
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


def _times(ticks: Sequence[TickComparison], frames: int, plain: Sequence[TickComparison], *, one_thread: bool) -> Times:
    wall_ms = [one.took.wall_ms for one in ticks]
    p50, p99, worst = _percentiles(wall_ms)
    cpu_p50, cpu_p99, _ = _percentiles([one.took.cpu_ms for one in ticks])
    plain_ms = [one.took.cpu_ms if one_thread else one.took.wall_ms for one in plain]
    return Times(
        frames_per_pass=frames,
        p50_ms=_rounded(p50),
        p99_ms=_rounded(p99),
        worst_ms=_rounded(worst),
        jitter_ms=_rounded(p99 - p50),
        std_ms=_rounded(float(np.std(wall_ms))),
        cpu_p50_ms=_rounded(cpu_p50) if one_thread else None,
        cpu_p99_ms=_rounded(cpu_p99) if one_thread else None,
        times_plain=_rounded(float(np.median(plain_ms)) * frames / (cpu_p50 if one_thread else p50)),
    )


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the greatest."""
    p50, p99, worst = (float(value) for value in np.percentile(values, (50, 99, 100)))
    return p50, p99, worst


def _rounded(value: float) -> float:
    return round(value, DIGITS)
