"""Experiments of several loads: repeated rounds, with and without a flood, search for capacity.

Knows a load is run by a function, and figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.report import Figures

SHARE = 0.995  # of the frames, answered within the deadline


def find_capacity(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which `holds` is true, 0 for none; taken to be monotonic."""
    held, failed = 0, 1
    while failed <= most and holds(failed):
        held, failed = failed, failed * 2
    failed = min(failed, most + 1)
    while failed - held > 1:
        middle = (held + failed) // 2
        held, failed = (middle, failed) if holds(middle) else (held, middle)
    return held


Measure = Callable[[Load], Figures]


def repeat_rounds(load: Load, rounds: int, measure: Measure) -> Figures:
    """Run the load so often and take medians. Random phases differ from round to round."""
    played = [measure(replace(load, seed=load.seed + number)) for number in range(rounds)]
    return {"median": medians(played), "rounds": played}


def compare_flood(load: Load, rounds: int, measure: Measure) -> Figures:
    """Each round without and with flooders, alternating, on the same phases: how much slower the robots' p99 gets."""
    pairs = [_pair(replace(load, seed=load.seed + number), measure, number) for number in range(rounds)]
    ratios = [ratio for calm, flooded in pairs if (ratio := _ratio(flooded, calm)) is not None]
    return {
        "p99_ratio": median(ratios) if ratios else None,
        "p99_ratios": ratios,
        "calm": medians([calm for calm, _ in pairs]),
        "flooded": medians([flooded for _, flooded in pairs]),
        "rounds": [{"calm": calm, "flooded": flooded} for calm, flooded in pairs],
    }


def measure_capacity(load: Load, most: int, measure: Measure) -> Figures:
    """The most robots for which SHARE of the frames are answered within the deadline, and all loads tried."""
    tried: list[Figures] = []

    def holds(robots: int) -> bool:
        tried.append(measure(replace(load, robots=robots)))
        return (tried[-1]["within_deadline"]["share"] or 0.0) >= SHARE

    return {"capacity": find_capacity(holds, most), "share": SHARE, "most": most, "tried": tried}


def medians(played: Sequence[Figures]) -> Figures:
    """Medians of the main figures."""
    rows = [
        {"within_share": found["within_deadline"]["share"], **found["latency_ms"], "reuse_ratio": found["reuse_ratio"]}
        for found in played
    ]
    columns = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
    return {name: median(known) if known else None for name, known in columns.items()}


def _pair(load: Load, measure: Measure, number: int) -> tuple[Figures, Figures]:
    """Without and with flooders; every other round in reverse order."""
    arms = [replace(load, flood=0), load]
    first, second = (measure(arm) for arm in (arms if number % 2 == 0 else arms[::-1]))
    return (first, second) if number % 2 == 0 else (second, first)


def _ratio(flooded: Figures, calm: Figures) -> float | None:
    slow, fast = flooded["latency_ms"]["p99"], calm["latency_ms"]["p99"]
    return round(slow / fast, 3) if slow and fast else None
