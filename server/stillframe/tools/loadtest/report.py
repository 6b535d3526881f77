"""Figures of a load test for JSON, and tables of them for a terminal.

Knows the senders' counts; sends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from stillframe.tools.loadtest.run import LoadResult
from stillframe.tools.loadtest.senders import SenderStats

Figures = dict[str, Any]
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
SHORT = {"within_share": "in time", "p50": "p50", "p90": "p90", "p99": "p99", "max": "max", "reuse_ratio": "reuse"}


def figures(played: LoadResult) -> Figures:
    """The load and its results, ready for JSON. Times are None if nothing was answered."""
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


def counts(tallies: Sequence[SenderStats]) -> dict[str, Any]:
    """All their frames by outcome."""
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
    """Percentiles in ms; None without any time."""
    known = np.array([*times_s]) * 1e3
    return {name: round(float(np.percentile(known, q)), 2) if known.size else None for name, q in PERCENTILES.items()}


def fairness(robots: Sequence[SenderStats]) -> dict[str, Any]:
    """How evenly robots are served: p99 of each, and Jain's index of answers."""
    p99s_ms = [times_ms(robot.latencies_s)["p99"] for robot in robots]
    known = [p99_ms for p99_ms in p99s_ms if p99_ms is not None]
    return {
        "robot_p99_ms": p99s_ms,
        "worst_over_median_p99": round(max(known) / float(np.median(known)), 3) if known else None,
        "jain_answered": jain([robot.answered for robot in robots]),
    }


def jain(shares: Sequence[float]) -> float | None:
    """Jain's index: 1 if all have the same, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return round(sum(shares) ** 2 / (len(shares) * squares), 4) if squares else None


def load_table(found: Figures) -> Table:
    """All figures of one load."""
    load = found["load"]
    flood = f", {load['flood']} flooding" if load["flood"] else ""
    shown = Table(title=f"{load['robots']} robots at {load['hz']:g} Hz over {load['wire']}{flood}", show_header=False)
    for name, value in _rows(found):
        shown.add_row(name, value)
    return shown


def short_table(title: str, rows: Mapping[str, Figures]) -> Table:
    """The main figures, a line each."""
    shown = Table("", *SHORT.values(), title=title)
    for name, row in rows.items():
        shown.add_row(name, _percent(row["within_share"]), *(_number(row[key]) for key in [*SHORT][1:]))
    return shown


def capacity_table(found: Figures) -> Table:
    """The loads tried, in order."""
    shown = Table("robots", "in time", "p50, ms", "p99, ms", "problems", title=f"capacity: {found['capacity']} robots")
    for tried in found["tried"]:
        latency_ms, share = tried["latency_ms"], tried["within_deadline"]["share"]
        figures = (_percent(share), _number(latency_ms["p50"]), _number(latency_ms["p99"]))
        shown.add_row(str(tried["load"]["robots"]), *figures, _listed(tried["frames"]["problems"]))
    return shown


def overhead_table(found: Figures) -> Table:
    """Overhead of each way to send a frame."""
    parts = next(iter(found.values()))["of_which_p50_ms"]
    shown = Table("ms, beside the policy", "p50", "p90", "p99", *parts, "p50 with it")
    for way, times in found.items():
        figures = [times["overhead_ms"][name] for name in ("p50", "p90", "p99")] + [*times["of_which_p50_ms"].values()]
        shown.add_row(way, *map(_number, figures), _number(times["total_ms"]["p50"]))
    return shown


def _rows(found: Figures) -> Iterable[tuple[str, str]]:
    frames, within, fair = found["frames"], found["within_deadline"], found["fairness"]
    latency_ms, lag_ms = found["latency_ms"], found["generator"]["lag_ms"]
    yield "frames due", f"{frames['due']}, sent {frames['sent']}, skipped {frames['skipped']}"
    yield "answered", f"{frames['answered']}, superseded {frames['superseded']}, unanswered {frames['unanswered']}"
    yield f"within {found['load']['deadline_ms']:g} ms", _percent(within["share"])
    yield "latency, ms", "  ".join(f"{name} {_number(value)}" for name, value in latency_ms.items())
    yield "problems", _listed(frames["problems"])
    worst, index = fair["worst_over_median_p99"], fair["jain_answered"]
    yield "fairness", f"worst robot's p99 / median's {_number(worst)}, Jain of answers {_number(index)}"
    yield "robots' p99, ms", "  ".join(_number(p99_ms) for p99_ms in fair["robot_p99_ms"])
    yield "reuse ratio", _number(found["reuse_ratio"])
    if found["flooders"]:
        flood = found["flooders"]
        yield "flooders", f"sent {flood['sent']}, answered {flood['answered']}, {_listed(flood['problems'])}"
    if found["ended_early"]:
        yield "ended early", "; ".join(found["ended_early"])
    yield (
        "this generator",
        f"{_percent(found['generator']['cpu_share'])} of a core, late by p99 {_number(lag_ms['p99'])} ms",
    )
    yield "load average", f"{found['load_average']} before"


def _listed(problems: dict[str, int]) -> str:
    return ", ".join(f"{code} {number}" for code, number in problems.items()) or "none"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
