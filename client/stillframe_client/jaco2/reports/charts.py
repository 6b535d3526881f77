"""A run's charts as PNG: speeds, positions, states with their reasons, lateness.

Knows axes and pixels; the numbers are series.py's. Importing it needs matplotlib.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from stillframe_client.jaco2.reports.series import reasons, series_of, states

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.reports.series import Series, Stretch
    from stillframe_client.jaco2.reports.tick_file import TickFile

INK, FAINT, ASKED, SENT, MEASURED = "#1f2933", "#c3cad1", "#b8c4d0", "#2f7f86", "#d64545"
SHADES = {"DISARMED": "#e4e7eb", "READY": "#cfe3e5", "RUNNING": "#2f7f86", "HOLD": "#f0b429", "FAULT": "#d64545"}
AXES = ("x", "y", "z")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "font.size": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
LATE_MS = 10.0
LEAST_MS = 0.01  # what is less late is drawn here
MOST_REASONS = 12
MARKED = ("HOLD", "FAULT")


def draw(log: TickFile, folder: Path) -> List[Path]:
    """Write the charts into a folder that exists; return their files. Raises OSError."""
    series = series_of(log)
    charts = {"velocity": _velocity, "position": _position, "states": _states, "lateness": _lateness}
    files = []
    for name, chart in charts.items():
        with rc_context(STYLE):
            files.append(_save(chart(log, series), folder / f"{name}.png"))
    return files


def _save(figure: Any, file: Path) -> Path:
    """Whole or not at all."""
    unfinished = file.with_suffix(".part")
    figure.savefig(unfinished, dpi=130, format="png")
    unfinished.replace(file)
    return file


def _velocity(log: TickFile, series: Series) -> Any:
    figure, panels = _panels(f"Velocity: asked by the policy, {_sent_to(log)}, measured by it")
    _name_columns(panels, "linear, base frame", "angular, tool's frame")
    for column, axis, panel in _each(panels):
        number = 3 * column + axis
        panel.plot(series.time_s, series.asked[:, number], color=ASKED, linewidth=3.0, label="asked")
        panel.plot(series.time_s, series.sent[:, number], color=SENT, linewidth=1.5, label="sent")
        _steps(panel, series.reported_s, series.measured[:, number])
        panel.set_ylabel(f"{AXES[axis]}, {('m/s', 'rad/s')[column]}")
    return _finished(figure, panels, log)


def _position(log: TickFile, series: Series) -> Any:
    figure, panels = _panels(f"Movement since the start: asked by the policy, {_sent_to(log)}, measured by it")
    _name_columns(panels, "linear, base frame", "angular, base frame")
    for column, axis, panel in _each(panels):
        number, scale = 3 * column + axis, (1e3, 1.0)[column]
        panel.plot(series.time_s, scale * series.steps[:, number], color=ASKED, linewidth=3.0, label="asked, added up")
        panel.plot(series.time_s, scale * series.told[:, number], color=SENT, linewidth=1.5, label="sent, added up")
        style: Any = {"color": MEASURED, "linewidth": 1.2, "marker": ".", "markersize": 2.5, "label": "measured"}
        panel.plot(series.reported_s, scale * series.moved[:, number], **style)
        panel.set_ylabel(f"{AXES[axis]}, {('mm', 'rad')[column]}")
        if column == 0 and len(series.position_m):
            _walls(panel, log, series, axis)
    return _finished(figure, panels, log)


def _states(log: TickFile, series: Series) -> Any:
    rows = _reasons(log)
    labels = ["state", *(textwrap.fill(name, 50) for name in rows)]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(11, 1.5 + 0.26 * lines + 0.08 * len(labels)), layout="constrained")
    panel = figure.subplots()
    panel.set_title("States over time, and the reasons of holds and faults")
    _bars(panel, 0, states(log))
    for row, parts in enumerate(rows.values(), 1):
        _bars(panel, row, parts, color=INK)
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.set_xlim(0, max(float(series.time_s[-1]), 0.01))
    panel.set_xlabel("seconds after the start")
    _legend_of_states(figure, log)
    return figure


def _reasons(log: TickFile) -> Dict[str, List[Stretch]]:
    """Those that lasted longest in all, in the order in which they came."""
    found = {f"{state}: {reason}": parts for state in MARKED for reason, parts in reasons(log, state).items()}
    longest = sorted(found, key=lambda name: -sum(end - begin for begin, end, _ in found[name]))[:MOST_REASONS]
    return {name: found[name] for name in found if name in longest}


def _lateness(log: TickFile, series: Series) -> Any:  # noqa: ARG001 -- all charts are alike
    late, figure = series.late_ms, Figure(figsize=(8, 4), layout="constrained")
    panel = figure.subplots()
    most = max(float(late.max()) * 1.3, 2 * LATE_MS)
    panel.hist(np.maximum(late, LEAST_MS), bins=np.geomspace(LEAST_MS, most, 81).tolist(), color=SENT)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(bottom=0.7)
    panel.axvline(LATE_MS, color=MEASURED, linewidth=1.2)
    over = int((late > LATE_MS).sum())
    panel.text(0.93 * LATE_MS, 0.97, f"{over} of {len(late)} over {LATE_MS:g} ms", **_above(panel, MEASURED))
    p50, p99 = np.percentile(late, (50, 99))
    panel.set_title(f"Lateness of ticks: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {late.max():.2f} ms")
    panel.set_xlabel("later than due, ms")
    panel.set_ylabel("ticks")
    panel.set_xlim(LEAST_MS, most)
    panel.xaxis.set_major_formatter("{x:g}")
    return figure


def _above(panel: Any, color: str) -> Any:
    return {"transform": panel.get_xaxis_transform(), "va": "top", "ha": "right", "color": color}


def _sent_to(log: TickFile) -> str:
    return "what would be sent to the arm (dry run)" if log.dry else "sent to the arm"


def _panels(title: str) -> Any:
    """Three rows, one for each axis; linear and angular beside each other."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure, figure.subplots(3, 2, sharex=True)


def _each(panels: Any) -> Any:
    return ((column, axis, panels[axis][column]) for axis in range(3) for column in range(2))


def _name_columns(panels: Any, *names: str) -> None:
    for panel, name in zip(panels[0], names):  # noqa: B905 -- two each
        panel.set_title(name)


def _steps(panel: Any, times_s: Any, values: Any) -> None:
    """What was measured is a mean between two reports: drawn over the time before each."""
    panel.step(times_s, values, where="pre", color=MEASURED, linewidth=1.0, label="measured")


def _walls(panel: Any, log: TickFile, series: Series, axis: int) -> None:
    """The box's sides, where they are near what was done."""
    limits = log.settings.limits
    low, high = limits.low_m[axis], limits.high_m[axis]
    low = max(low, limits.floor_m) if axis == 2 else low
    bottom, top = panel.get_ylim()
    for wall in (low, high):
        place = 1e3 * (wall - float(series.position_m[0, axis]))
        if bottom - 30 < place < top + 30:
            panel.axhline(place, color=INK, linewidth=0.9, linestyle="--", label="side of the box")


def _finished(figure: Any, panels: Any, log: TickFile) -> Any:
    for _, _, panel in _each(panels):
        panel.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
        for begin, end, state in states(log):
            if state in MARKED:
                panel.axvspan(begin, end, color=SHADES[state], alpha=0.22, linewidth=0, label=state)
        panel.margins(x=0)
    for panel in panels[-1]:
        panel.set_xlabel("seconds after the start")
    found = {label: handle for _, _, panel in _each(panels) for handle, label in _labelled(panel)}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found))
    return figure


def _labelled(panel: Any) -> Any:
    return zip(*panel.get_legend_handles_labels())  # noqa: B905 -- one each


def _bars(panel: Any, row: int, parts: Sequence[Stretch], color: str = "") -> None:
    """A row of the chart: of states, or of one reason in one colour."""
    for begin, end, what in parts:
        shade, height = color or SHADES[what], 0.4 if color else 0.7
        panel.barh(row, end - begin, left=begin, height=height, color=shade, linewidth=0)


def _legend_of_states(figure: Any, log: TickFile) -> None:
    from matplotlib.patches import Patch

    seen = {line.state for line in log.ticks}
    handles = [Patch(color=shade, label=state) for state, shade in SHADES.items() if state in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
