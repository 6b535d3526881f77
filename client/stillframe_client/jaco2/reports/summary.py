"""A run in a page of text: how long, in which states, held and stopped by what, on time or not, told and moved.

Knows no chart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, Tuple

import numpy as np

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.reports.answers import answers_of, answers_text
from stillframe_client.jaco2.reports.replay import decided
from stillframe_client.jaco2.reports.series import reasons, series_of

if TYPE_CHECKING:
    from stillframe_client.jaco2.reports.replay import Decided
    from stillframe_client.jaco2.reports.series import Series
    from stillframe_client.jaco2.reports.tick_file import TickFile

LATE_MS = 10.0
Row = Tuple[str, ...]


def summary(log: TickFile) -> str:
    """The page, in lines of text."""
    series, total = series_of(log), decided(log.ticks)
    parts = [_head(log, series), _states(log, total), _stops(log, total), _limits(total, len(log.ticks))]
    return "\n".join([*parts, _timing(series), _travel(log, series) + answers_text(answers_of(log))])


def compared(then: Decided, now: Decided) -> str:
    """Two decisions of the same ticks, side by side."""
    rows: List[Row] = [("", "in the log", "now")]
    rows += _counts("ticks", then.ticks, now.ticks)
    rows += _counts("limited by", then.limited, now.limited)
    rows += _counts("on hold:", then.holds, now.holds)
    rows.append(("fastest, m/s", f"{then.fastest_m_s:.4f}", f"{now.fastest_m_s:.4f}"))
    rows.append(("fastest, rad/s", f"{then.fastest_rad_s:.4f}", f"{now.fastest_rad_s:.4f}"))
    rows.append(("faults", str(len(then.faults)), str(len(now.faults))))
    return _table(rows) + "".join(f"fault now: {fault}\n" for fault in now.faults if fault not in then.faults)


def _head(log: TickFile, series: Series) -> str:
    arm = f"{log.arm.get('kind', '?')} {log.arm.get('name', '?')}"
    said = "dry run: nothing was sent" if log.dry else f"at speed {log.settings.limits.speed:g}"
    cut = "\nthe log's last line is cut short: the streamer was ended from outside" if log.is_cut else ""
    return f"{arm}, {series.time_s[-1] + TICK_S:.1f} s, {len(series.time_s)} ticks, {said}{cut}\n"


def _states(log: TickFile, total: Decided) -> str:
    rows = [
        (state, f"{100 * count / len(log.ticks):.1f} %", f"{count * TICK_S:.2f} s")
        for state, count in sorted(total.ticks.items(), key=lambda each: -each[1])
    ]
    return _table([("state", "share", "ticks x 10 ms"), *rows])


def _stops(log: TickFile, total: Decided) -> str:
    """Holds by reason, and faults."""
    rows = [
        (reason, str(len(parts)), f"{sum(end - begin for begin, end, _ in parts):.2f} s")
        for reason, parts in reasons(log, "HOLD").items()
    ]
    holds = _table([("on hold", "times", "in all"), *rows]) if rows else "no hold\n"
    faults = "".join(f"fault: {fault}\n" for fault in total.faults) or "no fault\n"
    return holds + faults


def _limits(total: Decided, ticks: int) -> str:
    rows = [
        (limit, str(count), f"{100 * count / ticks:.1f} %")
        for limit, count in sorted(total.limited.items(), key=lambda each: -each[1])
    ]
    fastest = f"fastest sent: {total.fastest_m_s:.3f} m/s, {total.fastest_rad_s:.3f} rad/s\n"
    return (_table([("limited by", "ticks", "share"), *rows]) if rows else "no limit was hit\n") + fastest


def _timing(series: Series) -> str:
    p50, p99 = np.percentile(series.late_ms, (50, 99))
    past_s = float(series.time_s[-1] - series.time_s[0])
    rate = f"{(len(series.time_s) - 1) / past_s:.2f} Hz" if past_s > 0 else "not known"
    late = int((series.late_ms > LATE_MS).sum())
    return (
        f"lateness of a tick: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {series.late_ms.max():.2f} ms; "
        f"{late} over {LATE_MS:g} ms\nrate: {rate}\n"
    )


def _travel(log: TickFile, series: Series) -> str:
    if len(series.reported_s) < 2:
        return "the arm reported no more than once\n"
    told_m = float(np.linalg.norm(np.nan_to_num(series.sent[:, :3]), axis=1).sum()) * TICK_S
    # Between runs an arm may be moved by hand, and a simulated world begins anew: that is no travel of ours.
    tick = np.searchsorted(series.time_s, series.reported_s[1:]).clip(max=len(series.time_s) - 1)
    commanded = ~np.isnan(series.sent[tick, 0])
    moved_m = float(np.linalg.norm(np.diff(series.position_m, axis=0), axis=1)[commanded].sum())
    told = "would have been told" if log.dry else "told"
    share = f" ({100 * moved_m / told_m:.0f} %)" if told_m > 0.01 and not log.dry else ""
    every_ms = 1e3 * float(np.median(np.diff(series.reported_s)))
    return f"travel: {told} {told_m:.3f} m, measured {moved_m:.3f} m{share}; a report each {every_ms:.0f} ms\n"


def _counts(title: str, then: Mapping[str, int], now: Mapping[str, int]) -> List[Row]:
    names = [*then, *(name for name in now if name not in then)]
    return [(f"{title} {name}", str(then.get(name, 0)), str(now.get(name, 0))) for name in names]


def _table(rows: List[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])  # noqa: B905
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
