"""The benchmark's charts: how many times faster than stock, where each row's time goes, and the gain of batches.

Knows axes and finished figures; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # noqa: F401 (fails here without matplotlib)

from stillframe.tools.charts import ACCENT, FAINT, INK, new_figure, save_figure
from stillframe_lab.latency.figures import STAGES, named

Row = Mapping[str, Any]
SHADES = dict(zip(STAGES, ("#9aa5b1", "#cbd2d9", "#52606d", "#e5a0a0", ACCENT, "#2f7f86", "#323f4b"), strict=True))
INCHES_A_BAR, MARGIN_INCHES = 0.22, 0.75
Group = tuple[str, Sequence[Row]]


def draw(out: Path, document: Mapping[str, Any]) -> list[str]:
    """Write the device's charts -> their names."""
    name, groups = document["device"], _groups(document["rows"])
    files = {chart: out / f"{name}-{chart}.png" for chart in ("speedup", "stages", "batch")}
    _bars(files["speedup"], groups, _speedup)
    _bars(files["stages"], groups, _stages)
    _batches(files["batch"], groups)
    return [file.name for file in files.values()]


def _groups(rows: Sequence[Row]) -> list[Group]:
    """Rows by model and dtype."""
    names = dict.fromkeys((row["model"], row["dtype"]) for row in rows)
    return [(f"{m}, {d}", [row for row in rows if (row["model"], row["dtype"]) == (m, d)]) for m, d in names]


def _bars(file: Path, groups: Sequence[Group], fill: Any) -> None:
    heights = [len(rows) for _, rows in groups]
    size = (9.0, sum(MARGIN_INCHES + INCHES_A_BAR * height for height in heights))
    figure, panels = new_figure(len(groups), size, heights)
    for axes, (title, rows) in zip(panels if len(groups) > 1 else [panels], groups, strict=True):
        fill(axes, rows)
        axes.set_yticks(range(len(rows)), [named(row) for row in rows], fontsize=8)
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, frameon=False, fontsize=8, ncols=8, loc="outside upper left")
    save_figure(figure, file)


def _speedup(axes: Any, rows: Sequence[Row]) -> None:
    values = [row["speedup_vs_stock"] for row in rows]
    axes.barh(range(len(rows)), values, color=[FAINT if row["name"].startswith("stock") else ACCENT for row in rows])
    for place, (value, row) in enumerate(zip(values, rows, strict=True)):
        axes.text(value, place, f"  {value:.2f}x  {row['frame_ms']:.1f} ms", va="center", fontsize=7, color=INK)
    axes.axvline(1.0, color=INK, linewidth=0.8)
    axes.set_xlim(0, 1.25 * max(values))
    axes.set_xlabel("times faster than stock, per robot's frame, medians")


def _stages(axes: Any, rows: Sequence[Row]) -> None:
    left = [0.0] * len(rows)
    for stage in STAGES:
        widths = [row["stages_ms"].get(stage, 0.0) / row["robots"] for row in rows]
        axes.barh(range(len(rows)), widths, left=left, color=SHADES[stage], label=stage)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    best = [row["roofline"]["ms"] / row["robots"] for row in rows]
    axes.plot(best, range(len(rows)), "|", color=INK, markersize=9, label="roofline")
    axes.set_xlabel("ms per robot's frame, each stage's median")


def _batches(file: Path, groups: Sequence[Group]) -> None:
    """Frames a second against robots, a line for each row that was also answered in batches."""
    figure, panels = new_figure(len(groups), (7.0, 2.6 * len(groups)), [1] * len(groups))
    for axes, (title, rows) in zip(panels if len(groups) > 1 else [panels], groups, strict=True):
        kinds = dict.fromkeys(row["batch_of"] for row in rows if row["batch_of"])
        for kind, shade in zip(kinds, (INK, ACCENT), strict=False):
            line = [row for row in rows if kind in (row["name"], row["batch_of"])]
            axes.plot(
                [row["robots"] for row in line], [row["frames_per_s"] for row in line], ".-", color=shade, label=kind
            )
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_ylabel("frames / s")
        axes.set_ylim(bottom=0)
        axes.set_xticks([1, 2, 4, 8])
        if kinds:
            axes.legend(frameon=False, fontsize=8)
    figure.axes[-1].set_xlabel("robots in a batch")
    save_figure(figure, file)
