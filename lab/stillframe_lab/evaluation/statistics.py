"""Statistics over several cells: pooled success, differences with intervals, drift of all measured answers.

Knows counts and outcomes; no cell's meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.evaluation.trace import DRIFT_SHARES, percentiles


def pooled(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several cells as one: success with its 95 % interval, reuse over all frames, drift of all measured answers.

    Drift is 0 if there were only keyframes, none of which was pruned.
    """
    wins, episodes = sum(one["wins"] for one in results), sum(one["episodes"] for one in results)
    frames = sum(one["frames"] for one in results)
    drifts = [value for one in results for value in one["drifts"]]
    keyframes = sum(one["keyframes"] for one in results)
    whole = keyframes == frames and not any(one.get("pruned_ratio") for one in results)
    return {
        "wins": wins,
        "episodes": episodes,
        "success": wins / episodes,
        "success_ci95": wilson(wins, episodes),
        "frames": frames,
        "reuse_ratio": sum(one["reuse_ratio"] * one["frames"] for one in results) / frames,
        "keyframes": keyframes,
        "drift": {**percentiles([0.0] if whole else drifts, DRIFT_SHARES), "frames": len(drifts)},
    }


def difference(arm: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Success of `arm` minus that of `base`, played on the same seeds under the same conditions, cell by cell.

    The interval is Newcombe's hybrid of two Wilson intervals, 95 %: it treats the two as independent, which is wide for
    paired episodes, and has a width even if both always succeed. Pairs that differ are counted too.
    """
    ours, theirs = pooled(arm), pooled(base)
    apart = ours["success"] - theirs["success"]
    (low, high), (base_low, base_high) = ours["success_ci95"], theirs["success_ci95"]
    below = sqrt((ours["success"] - low) ** 2 + (base_high - theirs["success"]) ** 2)
    above = sqrt((high - ours["success"]) ** 2 + (theirs["success"] - base_low) ** 2)
    pairs = [pair for one, other in zip(arm, base, strict=True) for pair in _pairs(one, other)]
    return {
        "difference": apart,
        "ci95": [apart - below, apart + above],
        "episodes": ours["episodes"],
        "only_base_succeeds": pairs.count(("0", "1")),
        "only_arm_succeeds": pairs.count(("1", "0")),
    }


def _pairs(arm: Mapping[str, Any], base: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each episode's outcome with both, "1" for a success."""
    tasks = base["outcomes"]
    return [pair for task in tasks for pair in zip(arm["outcomes"][task], tasks[task], strict=True)]
