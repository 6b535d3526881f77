"""Draws a dashboard from what its queries were answered, panel by panel where Grafana would have them.

Knows panels and series; asks nothing. Not Grafana's own picture: its grid, titles, units and legends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LinearLocator, MaxNLocator

from stillframe_lab.dashboards.answers import Series
from stillframe_lab.dashboards.panels import Dashboard, Panel, Query
from stillframe_lab.dashboards.units import axis_format, axis_size, written

WIDTH_IN, CELL_IN, COLUMNS = 16.0, 0.34, 24
HEAD_IN, MARGIN_IN, GAP_IN = 0.55, 0.12, 0.06
LINE_IN = 0.165  # of a legend
INK, QUIET, FAINT, CARD, PAGE = "#1f2933", "#66727f", "#e3e7eb", "#ffffff", "#f3f5f7"
GOOD, BAD = "#2f9e5f", "#d64545"
COLOURS = ("#2b6cb0", "#dd8a1d", "#2f9e5f", "#c2417c", "#7b5fc4", "#1f9bb3", "#96762b", "#5f6f7f", "#d64545", "#8aa83a")
WORDS = {"green": GOOD, "red": BAD}  # Grafana's names of colours
LIMITS = ("budget", "limit", "total")  # legends of what the other lines must not cross: dashed
DASHED: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (4, 2))}
MOST_LINES = 40  # of one panel
MOST_NAMES = 3  # of a stat that says what its series are

Ask = Callable[[Query], Sequence[Series]]


@dataclass(frozen=True)
class Line:
    """One line of a panel, with its name in the legend."""

    name: str
    series: Series

    @property
    def finite(self) -> Any:
        """Its values that are numbers [m]."""
        return self.series.values[np.isfinite(self.series.values)]

    @property
    def highest(self) -> float:
        """0 where there is no number."""
        return float(self.finite.max(initial=0.0))


def draw(dashboard: Dashboard, ask: Ask) -> Figure:
    """The whole dashboard, as wide as a page; `ask` answers a query's series."""
    bottom = max(y + height for _, y, _, height in (panel.box for panel in dashboard.panels))
    height_in = HEAD_IN + bottom * CELL_IN + MARGIN_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor=PAGE)
    page = _Page(figure, height_in)
    page.words(MARGIN_IN + 0.04, HEAD_IN / 2, dashboard.title, size=14, weight="bold")
    for panel in dashboard.panels:
        if panel.kind == "row":
            x, y, _, height = page.place(panel)
            page.words(x + 0.06, y + height * 0.62, panel.title, size=10.5, weight="bold", color=QUIET)
        else:
            lines = [Line(query.name(own.labels), own) for query in panel.queries for own in ask(query)]
            (_draw_stat if panel.kind == "stat" else _draw_lines)(page, panel, lines[:MOST_LINES])
    return figure


class _Page:
    """A figure that is drawn on in inches, from its upper left corner."""

    def __init__(self, figure: Figure, height_in: float):
        self._figure = figure
        self._height_in = height_in

    def place(self, panel: Panel) -> tuple[float, float, float, float]:
        """x, y, width and height of a panel in inches, gaps left out."""
        x, y, width, height = panel.box
        cell_in = (WIDTH_IN - 2 * MARGIN_IN) / COLUMNS
        left, top = MARGIN_IN + x * cell_in, HEAD_IN + y * CELL_IN
        return left + GAP_IN, top + GAP_IN, width * cell_in - 2 * GAP_IN, height * CELL_IN - 2 * GAP_IN

    def card(self, panel: Panel, colour: str = CARD) -> tuple[float, float, float, float]:
        """A panel's ground and title; returns its place."""
        x, y, width, height = place = self.place(panel)
        corner = (x / WIDTH_IN, 1 - (y + height) / self._height_in)
        size = (width / WIDTH_IN, height / self._height_in)
        ground = Rectangle(corner, *size, transform=self._figure.transFigure, facecolor=colour, edgecolor=FAINT)
        ground.set(linewidth=0.8, zorder=-1)
        self._figure.add_artist(ground)
        ink = INK if colour == CARD else CARD
        self.words(x + 0.12, y + 0.17, panel.title, size=9, weight="bold", color=ink)
        return place

    def words(self, x: float, y: float, text: str, **style: Any) -> None:
        """A text whose left end, or `ha`, is at x and whose middle is at y."""
        style = {"color": INK, "va": "center", "ha": "left"} | style
        self._figure.text(x / WIDTH_IN, 1 - y / self._height_in, text, **style)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes in a box of the page."""
        box = (x / WIDTH_IN, 1 - (y + height) / self._height_in, width / WIDTH_IN, height / self._height_in)
        return self._figure.add_axes(box)


def _draw_stat(page: _Page, panel: Panel, lines: Sequence[Line]) -> None:
    """One value in large, or names; behind it how it went."""
    known = [line for line in lines if len(line.finite)]
    value = float(known[0].finite[-1]) if known else math.nan
    text, colour = (panel.words or {}).get(f"{value:g}", (written(value, panel.unit, panel.decimals), ""))
    x, y, width, height = page.card(panel, WORDS.get(colour, CARD))
    if panel.says_name:
        names = [line.name for line in lines]
        if len(names) > MOST_NAMES:
            names[MOST_NAMES - 1 :] = [f"{len(names) - MOST_NAMES + 1} more"]
        for at, name in enumerate(names):
            page.words(x + width / 2, y + 0.5 + at * 0.3, name, size=8.5, ha="center", color=QUIET)
        return
    if known and not colour:
        axes = page.axes(x + 0.02, y + height * 0.62, width - 0.04, height * 0.36)
        axes.fill_between(known[0].series.times_s, known[0].series.values, color=COLOURS[0], alpha=0.18, linewidth=0)
        axes.set(ylim=(0, known[0].highest * 1.2 or 1))
        axes.axis("off")
    ink = CARD if colour else INK
    if panel.limit is not None and not math.isnan(value):
        ink = BAD if value > panel.limit else GOOD
    page.words(x + width / 2, y + height * 0.52, text, size=20, weight="bold", ha="center", color=ink)


def _draw_lines(page: _Page, panel: Panel, lines: Sequence[Line]) -> None:
    """Lines, or bands one upon the other, over time; below them what they are called and where they ended."""
    x, y, width, height = page.card(panel)
    shown = sorted((line for line in lines if len(line.finite)), key=_importance)
    coloured = [(line, BAD if line.name in LIMITS else COLOURS[at % len(COLOURS)]) for at, line in enumerate(shown)]
    columns = 3 if width > 6 else 2
    legend = _legend(coloured, columns, most=4 if height < 3 else 5)
    rows, column = -(-len(legend) // columns), (width - 0.2) / columns
    above, below = 0.42, 0.34 + rows * LINE_IN
    axes = page.axes(x + 0.66, y + above, width - 0.84, height - above - below)
    _style(axes)
    if not shown:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=9)
        axes.set(xticks=[], yticks=[])
        return
    _plot(axes, panel, coloured)
    _scale(axes, panel, shown)
    for at, (name, colour, line) in enumerate(legend):
        left = x + 0.16 + (at % columns) * column
        level = y + height - below + 0.36 + (at // columns) * LINE_IN
        last = "" if line is None else written(float(line.finite[-1]), panel.unit, panel.decimals)
        page.words(left, level, "■" if line else "", size=8, color=colour)
        page.words(left + 0.13, level, name, size=7.5, color=INK if line else QUIET)
        page.words(left + column - 0.14, level, last, size=7.5, ha="right", color=QUIET)


def _importance(line: Line) -> tuple[bool, bool, float]:
    """Limits come last, and what is 0 all the time after what is not; the highest first."""
    return line.name in LIMITS, line.highest == 0, -line.highest


def _legend(coloured: Sequence[tuple[Line, str]], columns: int, most: int) -> list[tuple[str, str, Line | None]]:
    """Names, colours and lines of the legend's entries: of as many as there is room for; the last says what is left."""
    told = [(line.name, colour, line) for line, colour in coloured if line.highest or len(coloured) <= columns]
    quiet = len(coloured) - len(told)
    room = columns * most - bool(quiet)
    rest = max(0, len(told) - room) + quiet
    entries: list[tuple[str, str, Line | None]] = [*told[:room]]
    if rest:
        entries.append((f"{rest} more at 0" if rest == quiet else f"{rest} more", QUIET, None))
    return entries


def _plot(axes: Any, panel: Panel, coloured: Sequence[tuple[Line, str]]) -> None:
    if panel.stacked:
        times_s = np.unique(np.concatenate([line.series.times_s for line, _ in coloured]))
        bands = [np.interp(times_s, line.series.times_s, np.nan_to_num(line.series.values)) for line, _ in coloured]
        axes.stackplot(times_s, bands, colors=[colour for _, colour in coloured], alpha=0.75, linewidth=0)
        return
    for line, colour in coloured:
        style = DASHED if line.name in LIMITS else {"linewidth": 1.5}
        axes.plot(line.series.times_s, line.series.values, color=colour, **style)


def _scale(axes: Any, panel: Panel, lines: Sequence[Line]) -> None:
    """From 0 to what is needed, or to the panel's own end; the times of day below."""
    if panel.stacked:
        highest = float(sum(line.highest for line in lines))
    else:
        highest = max((line.highest for line in lines), default=0.0)
    if panel.limit is not None:
        axes.axhline(panel.limit, color=BAD, **DASHED)
        highest = max(highest, panel.limit)
    top = panel.most or highest * 1.12 or 1.0
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(LinearLocator(5) if panel.most == top else FixedLocator(_ticks(panel.unit, top)))
    axes.yaxis.set_major_formatter(FuncFormatter(axis_format(panel.unit, top)))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_time_of_day))


def _ticks(unit: str, top: float) -> list[float]:
    """Round numbers up to `top` of what the axis counts in: 16 and 32 GiB, not 37.3."""
    size, _ = axis_size(unit, top)
    steps = [1, 2, 4, 8, 10] if unit == "bytes" else None
    rounds = MaxNLocator(4, steps=steps, integer=unit == "none" and top > 4).tick_values(0, top / size)
    return [float(tick) * size for tick in rounds if tick * size <= top]


def _time_of_day(at_s: float, _: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")


def _style(axes: Any) -> None:
    axes.set_facecolor("none")
    axes.grid(visible=True, color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=QUIET, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
