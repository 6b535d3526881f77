"""A run's charts as PNG: speeds, positions, states with their reasons, lateness, and the policy's answers.

Knows axes and pixels; the numbers are series.py's. Importing it needs matplotlib.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.reports.answers import answers_of
from stillframe_client.jaco2.reports.motion_charts import position, velocity
from stillframe_client.jaco2.reports.series import reasons, series_of, states
from stillframe_client.jaco2.reports.style import (
    INK,
    MARKED,
    MEASURED,
    SENT,
    SHADES,
    STYLE,
    legend_below,
    mark,
    save,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.reports.answers import Answers
    from stillframe_client.jaco2.reports.series import Series, Stretch
    from stillframe_client.jaco2.reports.tick_file import TickFile

LATE_MS = 10.0
LEAST_MS = 0.01  # what is less late is drawn here
MOST_REASONS = 12


def draw(log: TickFile, folder: Path) -> List[Path]:
    """Write the charts into a folder that exists; return their files. Raises OSError."""
    series = series_of(log)
    charts = {"velocity": velocity, "position": position, "states": _states, "lateness": _lateness}
    files = []
    with rc_context(STYLE):
        for name, chart in charts.items():
            files.append(save(chart(log, series), folder / f"{name}.png"))
        answers = answers_of(log)
        if len(answers.time_s):
            files.append(save(_answers(log, answers), folder / "answers.png"))
    return files


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


def _answers(log: TickFile, answers: Answers) -> Any:
    figure = Figure(figsize=(11, 4), layout="constrained")
    panel = figure.subplots()
    p50, p99 = np.percentile(answers.latency_ms, (50, 99))
    panel.set_title(f"Answers of the policy: p50 {p50:.0f} ms, p99 {p99:.0f} ms after their picture was taken")
    for chosen, color, label in ((answers.played, SENT, "played"), (~answers.played, MEASURED, "not played")):
        if chosen.any():
            panel.plot(answers.time_s[chosen], answers.latency_ms[chosen], ".", color=color, label=label)
    most_ms = 1e3 * (log.settings.policy.answer_age_s if log.settings.policy.mode == "realtime" else 0)
    if 0 < most_ms < 3 * float(answers.latency_ms.max()):
        panel.axhline(most_ms, color=INK, linewidth=0.9, linestyle="--", label="answer_age_s")
    mark(panel, log)
    panel.set_ylim(bottom=0)
    panel.set_xlim(0, log.ticks[-1].time_s - log.ticks[0].time_s + TICK_S)
    panel.set_ylabel("from picture to answer, ms")
    panel.set_xlabel("seconds after the start")
    legend_below(figure, [panel])
    return figure


def _above(panel: Any, color: str) -> Any:
    return {"transform": panel.get_xaxis_transform(), "va": "top", "ha": "right", "color": color}


def _bars(panel: Any, row: int, parts: Sequence[Stretch], color: str = "") -> None:
    """A row of the chart: of states, or of one reason in one colour."""
    for begin, end, what in parts:
        shade, height = color or SHADES[what], 0.4 if color else 0.7
        panel.barh(row, end - begin, left=begin, height=height, color=shade, linewidth=0)


def _legend_of_states(figure: Any, log: TickFile) -> None:
    seen = {line.state for line in log.ticks}
    handles = [Patch(color=shade, label=state) for state, shade in SHADES.items() if state in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
