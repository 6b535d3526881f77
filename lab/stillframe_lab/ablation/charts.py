"""The ablation's charts: success and drift against reuse, and where a step's time goes.

Knows axes and finished figures; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from stillframe.tools.charts import ACCENT, FAINT, INK, new_figure, save_figure
from stillframe_lab.ablation.labels import place_labels

Result = Mapping[str, Any]
BUDGET = 0.02
SHADES = {"tokens": "#7b8794", "tokens + relevance": "#2f7f86"}
FAMILY_COLOURS = (ACCENT, "#2f7f86", "#e8a020", "#7b8794")
ARM_MARKERS = ("o", "v", "s", "^", "D", "P", "X")
LINEAR_BELOW = 0.01  # drift: logarithmic above
MARGIN = 0.12  # of the axis of reuse, behind the last point


def success_chart(
    file: Path,
    pooled: Mapping[str, Result],
    counts: Mapping[str, Result],
    forced: str = "forced, front camera, perfect",
) -> None:
    """Every arm over all conditions as a point, forced counts as lines; success above, drift p90 below.

    Along x what was not computed: reused, or pruned.
    `forced` says under which conditions the counts were played.
    """
    figure, (won, moved) = new_figure(2, (8.0, 7.0), (1, 1))
    for name, rows in _lines(counts).items():
        reuse, style = [row["reuse_ratio"] for row in rows], {"color": SHADES[name], "linewidth": 1}
        won.plot(reuse, [100 * row["success"] for row in rows], ".-", **style)
        moved.plot(reuse, [row["drift"]["p90"] for row in rows], ".-", label=f"N {name}", **style)
    for arm in pooled.values():
        _success_point(won, arm)
        moved.plot(_spared(arm), _moved(arm), "o", color=ACCENT, markersize=5)
    what = "reused or pruned" if any(arm.get("pruned_ratio") for arm in pooled.values()) else "reused"
    title = "Reuse against success and drift, in closed loop"
    won.set_title(title, loc="left", fontsize=11, color=INK)
    won.set_ylabel("success, % (95 % interval)")
    won.margins(y=0.15)
    moved.axhline(BUDGET, color=FAINT, linewidth=1)
    widest = MARGIN + max(_spared(arm) for arm in (*pooled.values(), *counts.values()))
    moved.text(widest, BUDGET, "drift budget ", color=INK, fontsize=8, va="bottom", ha="right")
    moved.set_yscale("symlog", linthresh=LINEAR_BELOW)
    moved.set_ylim(-LINEAR_BELOW / 2, 2.0)
    moved.set_ylabel("drift p90, normalised units")
    moved.set_xlabel(f"token-layers {what} / token-layers, over whole episodes")
    if _lines(counts):
        moved.legend(frameon=False, fontsize=8, loc="lower right", title=forced, title_fontsize=8)
    for axes, across in ((won, _won), (moved, _moved)):
        axes.set_xlim(-0.03, widest)
        place_labels(axes, {name: (_spared(arm), across(arm)) for name, arm in pooled.items()})
    save_figure(figure, file)


def families_chart(file: Path, pooled: Mapping[str, Mapping[str, Result]]) -> None:
    """Every arm of every family over all conditions as a point; success above, drift p90 below."""
    figure, (won, moved) = new_figure(2, (8.0, 7.0), (1, 1))
    markers: dict[str, str] = {}
    for colour, (family, arms) in zip(cycle(FAMILY_COLOURS), pooled.items(), strict=False):
        for name, arm in arms.items():
            marker = markers.setdefault(name, ARM_MARKERS[len(markers) % len(ARM_MARKERS)])
            _success_point(won, arm, colour, marker)
            moved.plot(arm["reuse_ratio"], arm["drift"]["p90"], marker, color=colour, markersize=6, alpha=0.8)
        won.plot([], [], "o", color=colour, label=family)
    for name, marker in markers.items():
        moved.plot([], [], marker, color=INK, markersize=6, label=name)
    won.set_ylabel("success, % (95 % interval)")
    won.set_title("Reuse against success and drift, in closed loop", loc="left", fontsize=11, color=INK)
    moved.set_yscale("symlog", linthresh=LINEAR_BELOW)
    moved.set_ylim(-LINEAR_BELOW / 2, 2.0)
    moved.set_ylabel("drift p90, normalised units")
    moved.set_xlabel("reuse: token-layers reused / token-layers, over whole episodes")
    for axes in (won, moved):
        axes.set_xlim(-0.03, 1.0)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    save_figure(figure, file)


def speed_chart(file: Path, speeds: Mapping[str, Mapping[str, Result]]) -> None:
    """A panel a model: the median step of every arm, and how much of it is the prefill."""
    heights = [len(rows) for rows in speeds.values()]
    figure, panels = new_figure(len(speeds), (8.0, 0.9 + 0.36 * sum(heights)), heights)
    for axes, (model, rows) in zip(panels if len(speeds) > 1 else [panels], speeds.items(), strict=True):
        names = [*rows]
        whole = [row["latency_ms"]["p50"] for row in rows.values()]
        axes.barh(names, whole, color=FAINT, label="whole step")
        axes.barh(names, [row["llm_prefill_ms"]["p50"] for row in rows.values()], color=ACCENT, label="LLM prefill")
        for place, row in enumerate(rows.values()):
            words = f"  {row['speedup']:.2f}x, prefill {row['prefill_speedup']:.2f}x, reuse {row['reuse_ratio']:.2f}"
            axes.text(whole[place], place, words, va="center", fontsize=8, color=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.45 * max(whole))
        axes.set_title(model, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("ms of CPU time, median step, pictures to action in process, one thread")
    panels_first = panels[0] if len(speeds) > 1 else panels
    panels_first.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    save_figure(figure, file)


def _success_point(axes: Any, arm: Result, colour: str = ACCENT, marker: str = "o") -> None:
    (low, high), centre = arm["success_ci95"], arm["success"]
    reach = [[100 * max(0.0, centre - low)], [100 * max(0.0, high - centre)]]  # an end may lie a rounding inside
    axes.errorbar(_spared(arm), _won(arm), yerr=reach, fmt=marker, color=colour, markersize=5, linewidth=1.2)


def _won(arm: Result) -> float:
    """Success, in per cent."""
    return 100 * float(arm["success"])


def _moved(arm: Result) -> float:
    """Drift, its p90."""
    return float(arm["drift"]["p90"])


def _spared(arm: Result) -> float:
    """Token-layers that were not computed, reused or pruned / token-layers."""
    return float(arm["reuse_ratio"]) + float(arm.get("pruned_ratio", 0.0))


def _lines(counts: Mapping[str, Result]) -> dict[str, list[Result]]:
    """Counts without and with relevance, each rising from none; `off` begins both."""
    lines: dict[str, list[Result]] = {}
    start = counts.get("off")
    for name, row in counts.items():
        _, _, kind = name.partition(" ")
        if kind:
            lines.setdefault(kind, [start] if start else []).append(row)
    return lines
