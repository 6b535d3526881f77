"""Charts of the history report: success in the proof, against delay and bytes, cost of a step, a long episode.

Knows axes and a finished document; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe.tools.charts import ACCENT, FAINT, INK, new_figure, save_figure
from stillframe_lab.history.arms import ARMS, BOUNDED, FULL, GATE, LINEAR, OFF, RAW, SAMPLING, WINDOW
from stillframe_lab.history.plan import BUDGET, LONG, MIDDLE, PROOFS
from stillframe_lab.history.readme import KIB, NAMES, VARIANTS

Row = Mapping[str, Any]
SHADES = {
    OFF: "#9aa5b1",
    FULL: INK,
    WINDOW: "#2f6fb0",
    SAMPLING: "#8a3b52",
    "novelty": "#b07d2b",
    "attention": "#7a5195",
    LINEAR: "#2f7f86",
    GATE: ACCENT,
    RAW: "#52606d",
}
MARKS = dict(zip(SHADES, ("s", "D", "v", "X", "^", "<", ">", "o", "P"), strict=True))
APART = 0.012  # of the axis, between points that would overlap
POWERS = (0, 10, 100, 1_000, 10_000, 100_000, 1_000_000)  # KiB
ROOM_SUCCESS = 120  # %, of an axis that ends at 100: room for counts
ROOM_RIGHT = 1.32  # of the longest bar: room for its label


def proof_chart(file: Path, document: Mapping[str, Any]) -> None:
    """Success of every arm after the long delay, a panel for each variant of the proof."""
    long = [row for row in document["rows"] if row["delay"] == LONG]
    figure, panels = new_figure(len(PROOFS), (8.0, 6.0), (1,) * len(PROOFS))
    for axes, variant in zip(panels, PROOFS, strict=True):
        rows = {row["arm"]: row for row in long if row["variant"] == variant}
        names = [name for name in NAMES if name in rows]
        for place, name in enumerate(names):
            _interval(axes, place, rows[name])
        axes.set_yticks(range(len(names)), [NAMES[name] for name in names], fontsize=8)
        axes.set_ylim(max(1, len(names)) - 0.4, -0.6)
        if not names:
            axes.text(50, 0, "not played yet", fontsize=9, color=INK, ha="center", va="center")
        axes.set_xlim(-3, ROOM_SUCCESS)
        axes.set_xticks(range(0, 101, 20))
        axes.set_title(f"{variant}: {VARIANTS[variant]}", loc="left", fontsize=11, color=INK)
    panels[-1].set_xlabel(f"success, %, 95 % intervals; delay {LONG} steps, {BUDGET} chunks where there is a budget")
    save_figure(figure, file)


def success_chart(file: Path, document: Mapping[str, Any]) -> None:
    """Success against delay at one budget, and against bytes at one delay."""
    hard = document["hard"]
    rows = [row for row in document["rows"] if row["variant"] == hard["variant"]]
    figure, (delays, room) = new_figure(2, (8.0, 7.4), (1, 1))
    _against_delay(delays, [row for row in rows if row["budget_chunks"] in (None, BUDGET)])
    delays.set_title(f"{hard['variant']}: success, 95 % intervals", loc="left", fontsize=11, color=INK)
    _against_bytes(room, [row for row in rows if row["delay"] == MIDDLE])
    for axes in (delays, room):
        axes.set_ylabel("success, %")
        axes.set_ylim(-4, 104)
    handles, labels = delays.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, frameon=False, fontsize=8, ncols=4, loc="outside lower center")
    save_figure(figure, file)


def cost_chart(file: Path, speed: Mapping[str, Any]) -> None:
    """A panel each for bytes, multiply-adds and time, mode off; time in mode adaptive too."""
    figure, panels = new_figure(4, (8.0, 10.4), (1, 1, 1, 1))
    off, adaptive = speed["modes"]["off"], speed["modes"]["adaptive"]
    names = [*off]
    held = [off[name]["bytes"] / KIB for name in names]
    _bars(panels[0], names, held, [f"{value:,.0f}" for value in held])
    panels[0].set_xscale("symlog", linthresh=1)
    panels[0].set_xlim(0, max(POWERS))
    panels[0].set_xticks(POWERS, [f"{power:,}" for power in POWERS])
    panels[0].minorticks_off()
    panels[0].set_xlabel("keys and values of older frames held, KiB (logarithmic)")
    panels[0].set_title(f"A step after a delay of {speed['delay']} steps", loc="left", fontsize=11, color=INK)
    work = [off[name]["gmacs"] for name in names]
    _bars(panels[1], names, work, [f"{value:.3f}" for value in work])
    panels[1].set_xlabel("decoder, GMAC a step, mode off")
    for axes, rows, mode in ((panels[2], off, "off"), (panels[3], adaptive, "adaptive")):
        whole = [rows[name]["step_ms"] for name in names]
        decoder = [rows[name]["decoder_ms"] for name in names]
        words = [f"{part:.1f} of {all_:.1f}" for part, all_ in zip(decoder, whole, strict=True)]
        _bars(axes, names, whole, words, FAINT)
        axes.barh(range(len(names)), decoder, color=[SHADES[name] for name in names], height=0.7)
        axes.set_xlabel(f"ms of CPU time a step, mode {mode}: the decoder's share in colour")
    save_figure(figure, file)


def long_chart(file: Path, long: Mapping[str, Any]) -> None:
    """Bytes and a prefill's time over the steps of a long episode."""
    figure, (room, took) = new_figure(2, (8.0, 5.4), (1, 1))
    for arm in (FULL, GATE):
        run = long[arm]
        steps = [long["block"] * (2 + block) for block in range(len(run["bytes"]))]
        style = {"color": SHADES[arm], "linewidth": 1.5, "label": NAMES[arm]}
        room.plot(steps, [held / KIB for held in run["bytes"]], **style)
        took.plot(steps, run["prefill_ms"], **style)
        room.text(steps[-1], run["bytes"][-1] / KIB, f"  {run['bytes'][-1] / KIB:,.0f}", fontsize=8, va="center")
    room.set_title(f"An episode with a delay of {long['delay']} steps", loc="left", fontsize=11, color=INK)
    room.set_ylabel("held, KiB (logarithmic)")
    room.set_yscale("log")
    took.set_ylabel(f"prefill, ms a step\n(median of {long['block']} steps)")
    took.set_ylim(bottom=0)
    took.set_xlabel("step; from the dotted line on the arm is free")
    for axes in (room, took):
        axes.axvline(long[GATE]["free_from"] - 0.5, color=INK, linewidth=0.8, linestyle=":")
    room.legend(frameon=False, fontsize=9, loc="center right")
    save_figure(figure, file)


def _against_delay(axes: Any, rows: Sequence[Row]) -> None:
    """A line for each arm, slightly shifted, so that equal ones can be told apart."""
    delays = sorted({row["delay"] for row in rows})
    for number, arm in enumerate(ARMS):
        line = sorted((row for row in rows if row["arm"] == arm), key=lambda row: int(row["delay"]))
        shift = (number - len(ARMS) / 2) * APART * len(delays)
        _points(axes, arm, [delays.index(row["delay"]) + shift for row in line], line)
    axes.set_xticks(range(len(delays)), [str(delay) for delay in delays])
    axes.set_xlabel(f"delay, steps (those with a budget: {BUDGET} chunks)")


def _against_bytes(axes: Any, rows: Sequence[Row]) -> None:
    """Bounded arms as lines over their budgets; full history as a point, no history as a horizontal line."""
    for number, arm in enumerate(ARMS):
        line = sorted((row for row in rows if row["arm"] == arm), key=lambda row: float(row["history_end_mib"]))
        if arm == OFF:
            for row in line:
                axes.axhline(100 * row["success"], color=SHADES[OFF], linewidth=1, linestyle="--")
            continue
        shift = 1 + (number - len(ARMS) / 2) * 2 * APART if arm in BOUNDED else 1
        _points(axes, arm, [shift * KIB * row["history_end_mib"] for row in line], line)
    held = sorted({round(KIB * row["history_end_mib"]) for row in rows if row["history_end_mib"]})
    if held:
        axes.set_xscale("log")
        axes.set_xticks(held, [f"{value:,}" for value in held])
        axes.minorticks_off()
    axes.set_xlabel(f"held at an episode's end, KiB (logarithmic), delay {MIDDLE}; dashed: off")


def _points(axes: Any, arm: str, places: Sequence[float], rows: Sequence[Row]) -> None:
    if not rows:
        return
    centre = [100 * row["success"] for row in rows]
    low = [max(0.0, value - 100 * row["success_ci95"][0]) for value, row in zip(centre, rows, strict=True)]
    high = [max(0.0, 100 * row["success_ci95"][1] - value) for value, row in zip(centre, rows, strict=True)]
    width = 2.0 if arm == GATE else 1.0
    style = {"fmt": f"{MARKS[arm]}-", "color": SHADES[arm], "markersize": 5, "linewidth": width, "elinewidth": 0.8}
    axes.errorbar(places, centre, yerr=[low, high], label=NAMES[arm], **style)


def _interval(axes: Any, place: int, row: Row) -> None:
    """One arm's success as a point with its interval, and the counts beside it."""
    centre, (low, high) = 100 * row["success"], (100 * bound for bound in row["success_ci95"])
    spread = [[max(0.0, centre - low)], [max(0.0, high - centre)]]
    axes.errorbar([centre], [place], xerr=spread, fmt=MARKS[row["arm"]], color=SHADES[row["arm"]], markersize=6)
    axes.text(
        ROOM_SUCCESS, place, f"{row['wins']} of {row['episodes']} ", fontsize=8, color=INK, ha="right", va="center"
    )


def _bars(axes: Any, names: Sequence[str], values: Sequence[float], words: Sequence[str], shade: str = "") -> None:
    axes.barh(range(len(names)), values, color=shade or [SHADES[name] for name in names], height=0.7)
    for place, (value, said) in enumerate(zip(values, words, strict=True)):
        axes.text(value, place, f"  {said}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, ROOM_RIGHT * max(values))
