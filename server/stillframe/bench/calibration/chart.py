"""Reuse against drift: what a calibration tried, its budget, and what it chose.

Knows points and axes; not how they were found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillframe.pictures import ACCENT, FAINT, INK, new_figure, save_figure


@dataclass(frozen=True)
class ReusePoint:
    """One candidate of a calibration."""

    reuse: float  # share of token-layers
    drift: float  # normalised units
    criterion: str


def reuse_chart(
    file: Path, points: Sequence[ReusePoint], chosen: Mapping[str, ReusePoint], budget: float, title: str
) -> None:
    """Reuse against drift p90: all points, those within budget darker, the budget, and the chosen ones by name."""
    figure, axes = new_figure(1, (7.5, 4.8), (1,))
    for criterion, marker in zip(sorted({point.criterion for point in points}), "osD^", strict=False):
        ours = [point for point in points if point.criterion == criterion]
        colours = [INK if point.drift <= budget else FAINT for point in ours]
        axes.scatter(*_places(ours), c=colours, marker=marker, s=18, linewidths=0, label=criterion)
    axes.axhline(budget, color=ACCENT, linewidth=1.2, label=f"budget {budget:g}")
    for (name, point), face in zip(chosen.items(), (ACCENT, "white"), strict=False):
        axes.scatter(*_places([point]), s=70, facecolor=face, edgecolor=ACCENT, linewidths=1.5, zorder=3, label=name)
    axes.set_yscale("symlog", linthresh=max(budget, 0.001))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("reuse: token-layers not computed, share")
    axes.set_ylabel("drift p90, normalised units")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    save_figure(figure, file)


def _places(points: Sequence[ReusePoint]) -> tuple[list[float], list[float]]:
    return [point.reuse for point in points], [point.drift for point in points]
