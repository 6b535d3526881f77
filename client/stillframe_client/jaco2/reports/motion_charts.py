"""Charts of what was asked, sent and measured, an axis a panel: velocity, and movement since the start.

Knows axes and pixels; the numbers are series.py's. Importing it needs matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from stillframe_client.jaco2.reports.style import ASKED, FAINT, INK, MEASURED, SENT, legend_below, mark

if TYPE_CHECKING:
    from stillframe_client.jaco2.reports.series import Series
    from stillframe_client.jaco2.reports.tick_file import TickFile

AXES = ("x", "y", "z")


def velocity(log: TickFile, series: Series) -> Any:
    """The figure of velocities."""
    figure, panels = _panels(f"Velocity: asked by the policy, {_sent_to(log)}, measured by it")
    _name_columns(panels, "linear, base frame", "angular, tool's frame")
    for column, axis, panel in _each(panels):
        number = 3 * column + axis
        panel.plot(series.time_s, series.asked[:, number], color=ASKED, linewidth=3.0, label="asked")
        panel.plot(series.time_s, series.sent[:, number], color=SENT, linewidth=1.5, label="sent")
        _steps(panel, series.reported_s, series.measured[:, number])
        panel.set_ylabel(f"{AXES[axis]}, {('m/s', 'rad/s')[column]}")
    return _finished(figure, panels, log)


def position(log: TickFile, series: Series) -> Any:
    """The figure of movements, with the sides of the box that are near."""
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
        mark(panel, log)
        panel.margins(x=0)
    for panel in panels[-1]:
        panel.set_xlabel("seconds after the start")
    legend_below(figure, [panel for _, _, panel in _each(panels)])
    return figure
