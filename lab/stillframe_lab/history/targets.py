"""Compare the arms: differences with intervals, ratios, and targets.

Knows rows of results; writes no page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillframe_lab.evaluation.page import target
from stillframe_lab.evaluation.statistics import difference
from stillframe_lab.history.arms import FULL, GATE, LINEAR, OFF, RAW, SAMPLING, WINDOW
from stillframe_lab.history.earlier import MARK
from stillframe_lab.history.plan import BUDGET, LONG, PROOF, PROOFS

Row = Mapping[str, Any]
AGAINST = (FULL, WINDOW, LINEAR, SAMPLING, OFF)
POINTS_LOST, BYTES_SAVED, FASTER, POINTS_WON, GATE_SHARE, POLICY = 2.0, 1.87, 1.34, 15.0, 0.02, 0.9
NOT_PUBLISHED = {"drifts": [], "reuse_ratio": 0.0}  # of cells in which nothing is reused


def scopes_of(rows: Sequence[Row], variant: str) -> dict[str, list[Row]]:
    """Rows by comparison: the proof's variants together and each alone; `variant` at the long delay, and at all."""
    long = [row for row in rows if row["delay"] == LONG]
    return {
        PROOF: [row for row in long if row["variant"] in PROOFS],
        **{proof: [row for row in long if row["variant"] == proof] for proof in PROOFS},
        "long": [row for row in long if row["variant"] == variant],
        "all_delays": [row for row in rows if row["variant"] == variant],
    }


def comparisons(rows: Sequence[Row], variant: str) -> dict[str, dict[str, Any]]:
    """The gate's success less another arm's, by scope and arm, where both were played and their outcomes are known.

    Equal bytes except full history and off. The proof's variants together only where both were played in each.
    """
    found = {name: _scope(scope) for name, scope in scopes_of(rows, variant).items()}
    found[PROOF] = {other: one for other, one in found[PROOF].items() if all(other in found[each] for each in PROOFS)}
    return {name: against for name, against in found.items() if against}


def _scope(rows: Sequence[Row]) -> dict[str, Any]:
    """By the other arm's name, at the common budget."""
    by_arm: dict[str, dict[tuple[str, int], Row]] = {}
    for row in rows:
        if row["budget_chunks"] in (None, BUDGET) and "outcomes" in row:
            by_arm.setdefault(row["arm"], {})[row["variant"], row["delay"]] = row
    gate, found = by_arm.get(GATE, {}), {}
    for other in AGAINST:
        places = sorted(gate.keys() & by_arm.get(other, {}).keys())
        if places:
            found[other] = _compared([gate[place] for place in places], [by_arm[other][place] for place in places])
    return found


def _compared(ours: Sequence[Row], theirs: Sequence[Row]) -> dict[str, Any]:
    """Both arms' rows in the same order of variants and delays."""
    whole = [[{**NOT_PUBLISHED, "keyframes": row["frames"], **row} for row in rows] for rows in (ours, theirs)]
    marks = [row[MARK] for row in (*ours, *theirs) if MARK in row]
    return {
        **difference(*whole),
        "delays": sorted({row["delay"] for row in ours}),
        "bytes_ratio": _bytes_ratio(ours, theirs),
        **({MARK: marks[0]} if marks else {}),
    }


def _bytes_ratio(ours: Sequence[Row], theirs: Sequence[Row]) -> float | None:
    """Bytes that the other arm holds at the end of episodes / bytes that the gate holds."""
    held, other = (sum(row["history_end_mib"] for row in rows) for rows in (ours, theirs))
    return other / held if held else None


def targets(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Targets and what was measured, `scope` by scope; cells that were not played are left out."""
    found: list[dict[str, Any]] = []
    for scope in (*PROOFS, "long"):
        against = document["comparisons"].get(scope, {})
        success = _policy(document["rows"], scope) if scope in PROOFS else []
        found += [{"scope": scope, **one} for one in (*success, *_won(against))]
    return [*found, *({"scope": "step", **one} for one in _taken(document["speed"]))]


def _policy(rows: Sequence[Row], variant: str) -> Iterator[dict[str, Any]]:
    """Whether the policy itself is good enough for what was kept to decide."""
    for row in rows:
        if (row["arm"], row["variant"], row["delay"]) == (FULL, variant, LONG):
            wanted = f"at least {100 * POLICY:g} %"
            yield target(
                "success with full history", wanted, f"{100 * row['success']:.1f} %", met=row["success"] >= POLICY
            )


def _won(against: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of one variant at the long delay, in equal bytes but for full history."""
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
    for other, name in ((LINEAR, "the linear score"), (SAMPLING, "frame sampling of equal bytes")):
        if other in points:
            won = points[other]
            yield target(f"success above {name}", "more", f"{won:+.1f} points", met=won > 0)


def _taken(speed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a step in mode off."""
    gate = speed["modes"]["off"][GATE]
    for other, name in ((FULL, "full history"), (RAW, "full history, raw")):
        ratio = gate[f"{other}_decoder_ms_ratio"]
        yield target(f"decoder step against {name}", f"{FASTER:g}x faster", f"{ratio:.2f}x", met=ratio >= FASTER)
    share, wanted = speed["gate"]["share"], f"under {100 * GATE_SHARE:g} % of a step"
    yield target("the gate's own time", wanted, f"{100 * share:.2f} %", met=share < GATE_SHARE)
