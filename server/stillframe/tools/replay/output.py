"""A replay's report as JSON, as a table for a terminal, and as a chart.

Knows drift and names; not how it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from stillframe.tools.charts import ACCENT, FAINT, INK, new_figure, save_figure
from stillframe.tools.replay.drift import DriftSummary, FrameDrift, ReplayReport

LINEAR_BELOW = 0.01  # of the chart's axis, which is logarithmic above
NAMES = {"p90": "p90", "most": "max"}
ID_LENGTH = 12  # of a session's id in the table
MOST_SESSIONS = 20  # in the table; all are in the JSON


def document(report: ReplayReport, allowed: Mapping[str, float | None]) -> dict[str, Any]:
    """All that is known; `allowed`: the bounds that were given."""
    was, now = report.horizons
    return {
        "format": "stillframe-replay/1",
        "model": report.model,
        "mode": report.mode,
        "allowed": dict(allowed),
        "horizon": {"recorded": was, "replayed": now, "compared": min(was, now)},
        "reuse_ratio": dict(zip(("recorded", "replayed"), report.reuse, strict=True)),
        "held_chunks": report.held,
        "drift": asdict(report.summary),
        "by_dimension": _asdicts(report.by_dimension),
        "by_quarter": _asdicts(report.by_quarter),
        "by_session": _asdicts(report.by_session),
        "frames": [_frame(frame, report.action_names) for frame in report.frames],
    }


def table(report: ReplayReport) -> Table:
    """Percentiles of drift: of all frames, then of each dimension, quarter of the chunk and session."""
    title = f"drift of {report.model}, mode {report.mode}, from what was recorded; normalised units"
    drawn = Table(title=title, title_justify="left", title_style="")
    for name in ("", "frames", "p50", "p90", "max", "identical"):
        drawn.add_column(name, justify="left" if not name else "right")
    quarters = {f"quarter {name} of the chunk": one for name, one in report.by_quarter.items()}
    groups = ({"all frames": report.summary}, report.by_dimension, quarters)
    for group in groups:
        _add(drawn, group)
    sessions = report.by_session
    shown = [*sessions.items()][:MOST_SESSIONS]
    _add(drawn, {f"session {shortened(session)}": summary for session, summary in shown})
    if len(sessions) > MOST_SESSIONS:
        drawn.add_row(f"and {len(sessions) - MOST_SESSIONS} more sessions: --json has them")
    return drawn


def notes(report: ReplayReport) -> list[str]:
    """What has to be known beside the figures."""
    was, now = report.horizons
    reused, reuses = report.reuse
    said = [f"reuse ratio, mean: {reused:.2f} as recorded, {reuses:.2f} as replayed"]
    if was != now:
        said.append(f"chunks have {was} actions as recorded, {now} as replayed: the first {min(was, now)} are compared")
    if report.held:
        said.append(
            f"{report.held} frames were recorded with real-time chunking; a replay holds no chunk to the one before, "
            "which their drift shows too"
        )
    return said


def draw_chart(file: Path, report: ReplayReport, allowed: Mapping[str, float | None]) -> None:
    """Drift frame by frame with its percentiles, episodes apart; below, p50 and p90 of each dimension."""
    figure, (frames, dimensions) = new_figure(2, (8.0, 5.4), (3, 2))
    drifts, found = [frame.drift for frame in report.frames], report.summary
    frames.plot(drifts, color=INK, linewidth=0.7, marker=".", markersize=3)
    for at in _ends(report.frames):
        frames.axvline(at - 0.5, color=FAINT, linewidth=0.8)
    for name, value, line in (("p50", found.p50, ":"), ("p90", found.p90, "-")):
        frames.axhline(value, color=ACCENT, linewidth=1.0, linestyle=line, label=f"{name} {value:.4f}")
    for name, bound in allowed.items():
        if bound is not None:
            frames.axhline(bound, color=INK, linewidth=1.0, linestyle="--", label=f"allowed, {name}: {bound:g}")
    frames.set_yscale("symlog", linthresh=LINEAR_BELOW)
    frames.set_ylim(bottom=0)
    frames.set_xlabel("recorded frame, in the order of sessions; episodes apart")
    frames.set_ylabel("drift, normalised units")
    frames.legend(fontsize=8, frameon=False, loc="lower right", ncols=4, bbox_to_anchor=(1, 1))
    frames.set_title(f"{report.model}, mode {report.mode}\n", loc="left", fontsize=11, color=INK)
    _bars(dimensions, report.by_dimension)
    save_figure(figure, file)


def _bars(axes: Any, groups: Mapping[str, DriftSummary]) -> None:
    places = np.arange(len(groups))
    for shift, colour, name in ((-0.2, ACCENT, "p90"), (0.2, FAINT, "most")):
        axes.bar(places + shift, [getattr(one, name) for one in groups.values()], 0.4, color=colour, label=NAMES[name])
    axes.set_xticks(places, [*groups])
    axes.set_ylim(bottom=0, top=None if any(one.most for one in groups.values()) else LINEAR_BELOW)
    axes.set_ylabel("drift of a dimension")
    axes.legend(fontsize=8, frameon=False)


def _ends(frames: Any) -> list[int]:
    """Where another episode begins."""
    return [at for at in range(1, len(frames)) if frames[at].episode != frames[at - 1].episode]


def _frame(frame: FrameDrift, names: tuple[str, ...]) -> dict[str, Any]:
    cache = frame.recorded.report.cache
    said = {side: getattr(frame, side).report.cache for side in ("recorded", "replayed")}
    return {
        "session": frame.session,
        "episode": frame.episode,
        "epoch": cache.epoch,
        "seq": cache.seq,
        "drift": frame.drift,
        "by_dimension": dict(zip(names, frame.by_dimension.tolist(), strict=True)),
        "by_quarter": list(frame.by_quarter),
        "own_drift": frame.own_drift,
        **{
            side: {"frame": own.frame, "reason": own.keyframe_reason, "reuse_ratio": own.reuse_ratio}
            for side, own in said.items()
        },
    }


def _asdicts(groups: Mapping[str, DriftSummary]) -> dict[str, Any]:
    return {name: asdict(summary) for name, summary in groups.items()}


def shortened(session: str) -> str:
    """An id that fits a table."""
    return session if len(session) <= ID_LENGTH else session[: ID_LENGTH - 1] + "\u2026"


def _add(drawn: Table, groups: Mapping[str, DriftSummary]) -> None:
    for name, one in groups.items():
        figures = (f"{value:.4f}" for value in (one.p50, one.p90, one.most))
        drawn.add_row(name, str(one.frames), *figures, f"{one.identical:.0%}")
    drawn.add_section()
