"""What a load came to, in figures.

Knows counts and times; not how they came about. Frames that were skipped or got no action are misses like late ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from stillframe.bench.loadtest.run import Played
from stillframe.bench.loadtest.tally import Tally

Figures = dict[str, Any]
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}


def figures(played: Played) -> Figures:
    """Everything that was asked for and found, ready for JSON. Where nothing was answered, times are None."""
    robots = played.robots
    frames = counts(robots)
    within = sum(robot.within(played.load.deadline_ms / 1e3) for robot in robots)
    return {
        "load": asdict(played.load),
        "frames": frames,
        "within_deadline": {"frames": within, "share": within / frames["due"] if frames["due"] else None},
        "latency_ms": times_ms(latency_s for robot in robots for latency_s in robot.latencies_s),
        "fairness": fairness(robots),
        "reuse_ratio": _mean([ratio for robot in robots for ratio in robot.reuse]),
        "ended_early": sorted({robot.ended for robot in robots if robot.ended}),
        "flooders": counts(played.flooders) if played.flooders else None,
        "generator": {
            "cpu_share": round(played.cpu_share, 3),
            "lag_ms": times_ms(lag_s for robot in robots for lag_s in robot.lags_s),
        },
        "load_average": round(played.load_average, 2),
        "took_s": round(played.took_s, 2),
    }


def counts(tallies: Sequence[Tally]) -> dict[str, Any]:
    """What became of all their frames."""
    problems = sum((tally.problems for tally in tallies), Counter[str]())
    return {
        "due": sum(tally.due for tally in tallies),
        "skipped": sum(tally.skipped for tally in tallies),
        "sent": sum(tally.sent for tally in tallies),
        "answered": sum(tally.answered for tally in tallies),
        "superseded": sum(tally.superseded for tally in tallies),
        "unanswered": sum(tally.unanswered for tally in tallies),
        "problems": dict(problems.most_common()),
    }


def times_ms(times_s: Iterable[float]) -> dict[str, float | None]:
    """Percentiles."""
    known = np.array([*times_s]) * 1e3
    return {name: round(float(np.percentile(known, q)), 2) if known.size else None for name, q in PERCENTILES.items()}


def fairness(robots: Sequence[Tally]) -> dict[str, Any]:
    """Whether some robot is served worse than the others."""
    p99s_ms = [times_ms(robot.latencies_s)["p99"] for robot in robots]
    known = [p99_ms for p99_ms in p99s_ms if p99_ms is not None]
    return {
        "robot_p99_ms": p99s_ms,
        "worst_over_median_p99": round(max(known) / float(np.median(known)), 3) if known else None,
        "jain_answered": jain([robot.answered for robot in robots]),
    }


def jain(shares: Sequence[float]) -> float | None:
    """Jain's index: 1 where all have as much, 1/n where one has everything."""
    squares = sum(share * share for share in shares)
    return round(sum(shares) ** 2 / (len(shares) * squares), 4) if squares else None


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
