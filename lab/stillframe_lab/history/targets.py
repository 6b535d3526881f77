"""Compare the arms: differences with intervals, ratios, and targets.

Knows rows of results; writes no page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillframe_client.sim.cues import SIMPLE
from stillframe_lab.evaluation.page import target
from stillframe_lab.evaluation.statistics import difference
from stillframe_lab.history.arms import FULL, GATE, LINEAR, OFF, RAW, WINDOW
from stillframe_lab.history.plan import BUDGET, LONG

Row = Mapping[str, Any]
AGAINST = (FULL, WINDOW, LINEAR, OFF)
POINTS_LOST, BYTES_SAVED, FASTER, POINTS_WON, GATE_SHARE = 2.0, 1.87, 1.34, 15.0, 0.02


def comparisons(rows: Sequence[Row], variant: str) -> dict[str, dict[str, Any]]:
    """The gate's success less another arm's, where both were played: at the long delay, over all delays, and simple.

    Equal bytes except full history and off.
    """
    scopes = {
        "long": [row for row in rows if row["variant"] == variant and row["delay"] == LONG],
        "all_delays": [row for row in rows if row["variant"] == variant],
        "simple": [row for row in rows if row["variant"] == SIMPLE],
    }
    found = {name: _scope(scope) for name, scope in scopes.items()}
    return {name: against for name, against in found.items() if against}


def _scope(rows: Sequence[Row]) -> dict[str, Any]:
    """By the other arm's name, at the common budget."""
    by_arm: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row["budget_chunks"] in (None, BUDGET):
            by_arm.setdefault(row["arm"], {})[row["delay"]] = row
    gate, found = by_arm.get(GATE, {}), {}
    for other in AGAINST:
        delays = sorted(gate.keys() & by_arm.get(other, {}).keys())
        if delays:
            ours, theirs = [gate[delay] for delay in delays], [by_arm[other][delay] for delay in delays]
            found[other] = {**difference(ours, theirs), "delays": delays, "bytes_ratio": _bytes_ratio(ours, theirs)}
    return found


def _bytes_ratio(ours: Sequence[Row], theirs: Sequence[Row]) -> float | None:
    """Bytes that the other arm holds at the end of episodes / bytes that the gate holds."""
    held, other = (sum(row["history_end_mib"] for row in rows) for rows in (ours, theirs))
    return other / held if held else None


def targets(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Targets and what was measured; cells that were not played are left out."""
    return [*_won(document["comparisons"].get("long", {})), *_taken(document["speed"])]


def _won(against: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of the hard variant at the long delay, in equal bytes but for full history."""
    points = {other: 100 * found["difference"] for other, found in against.items()}
    if FULL in points:
        lost, ratio = 0.0 - points[FULL], against[FULL]["bytes_ratio"]
        wanted = f"at most {POINTS_LOST:g} points"
        yield target("success lost against full history", wanted, f"{lost:.1f} points", met=lost <= POINTS_LOST)
        wanted = f"{BYTES_SAVED:g}x less"
        yield target("memory against full history", wanted, f"{ratio:.1f}x less", met=ratio >= BYTES_SAVED)
    if WINDOW in points:
        won, wanted = points[WINDOW], f"at least {POINTS_WON:g} points"
        yield target("success above a window of equal bytes", wanted, f"{won:.1f} points", met=won >= POINTS_WON)
    if LINEAR in points:
        won = points[LINEAR]
        yield target("success above the linear score", "more", f"{won:+.1f} points", met=won > 0)


def _taken(speed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a step in mode off."""
    gate = speed["modes"]["off"][GATE]
    for other, name in ((FULL, "full history"), (RAW, "full history, raw")):
        ratio = gate[f"{other}_decoder_ms_ratio"]
        yield target(f"decoder step against {name}", f"{FASTER:g}x faster", f"{ratio:.2f}x", met=ratio >= FASTER)
    share, wanted = speed["gate"]["share"], f"under {100 * GATE_SHARE:g} % of a step"
    yield target("the gate's own time", wanted, f"{100 * share:.2f} %", met=share < GATE_SHARE)
