"""The tables of sessions: a row of figures for each, and a row of its last frames' time by stage.

Knows records of sessions; no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stillframe.files.kinds import shown
from stillframe.tools.sizes import size
from stillframe.tools.top.snapshot import Latest, SessionRow

LINES_A_SESSION = 2  # one in each table
ANONYMOUS = "anonymous"  # owner of all sessions where there are no tokens
NOT_KNOWN = "-"
WIDE = 100  # columns of a terminal that has room for the less telling figures
SECONDS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


@dataclass(frozen=True)
class Column:
    """One column of figures."""

    head: str
    cell: Callable[[SessionRow, Latest], str | Text]  # of a session that had a frame
    words: bool = False  # not numbers
    wide: bool = False  # only where there is room


def session_tables(rows: Sequence[SessionRow], drift_budget: float | None, width: int) -> Iterator[RenderableType]:
    """What those sessions do, in their order; `width`: the terminal's columns."""
    if not rows:
        yield Text("no session is open", style="dim")
        return
    columns = [column for column in _columns(rows, drift_budget) if width >= WIDE or not column.wide]
    figures = _table([("session", True), *((column.head, column.words) for column in columns)])
    for row in rows:
        newest = row.latest
        figures.add_row(_name(row), *(NOT_KNOWN if newest is None else column.cell(row, newest) for column in columns))
    yield figures
    with_frames = [(row, row.latest) for row in rows if row.latest is not None]
    if with_frames:
        yield ""
        yield _stages(with_frames)


def most_active(sessions: Sequence[SessionRow], most: int) -> Sequence[SessionRow]:
    """The sessions that were used last, at most so many, in the order in which the daemon lists them."""
    used = sorted(range(len(sessions)), key=lambda at: sessions[at].idle_s)[:most]
    return [sessions[at] for at in sorted(used)]


def duration(seconds: float) -> str:
    """In the largest unit that leaves one or more."""
    for unit, name in SECONDS:
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s"


def _columns(rows: Sequence[SessionRow], drift_budget: float | None) -> Iterator[Column]:
    yield Column("state", lambda row, _: _state(row), words=True, wide=True)
    yield Column("frame", lambda _, newest: str(newest.seq), wide=True)
    yield Column("age", lambda _, newest: duration(newest.age_s))
    yield Column("steps/s", lambda row, _: NOT_KNOWN if row.recent is None else f"{row.recent.frames_per_s:.1f}")
    yield Column("reuse", lambda row, _: _reuse(row))
    yield Column("kind", lambda _, newest: _kind(newest), words=True)
    budget = "" if drift_budget is None else f" of {drift_budget:g}"
    yield Column(f"drift{budget}", lambda _, newest: _drift(newest.drift, drift_budget))
    yield Column("passes", lambda _, newest: str(newest.passes), wide=True)
    yield Column("KV", lambda _, newest: size(newest.cache.kv_bytes))
    if any(row.latest is not None and row.latest.history is not None for row in rows):
        yield Column("chunks held/kept/dropped", lambda _, newest: _chunks(newest), wide=True)


def _stages(rows: Sequence[tuple[SessionRow, Latest]]) -> Table:
    names = list(dict.fromkeys(name for _, newest in rows for name in newest.median_ms))
    table = _table([("median ms", True), *((shown(name), False) for name in names), ("total", False)])
    for row, newest in rows:
        took = (NOT_KNOWN if name not in newest.median_ms else _ms(newest.median_ms[name]) for name in names)
        total = None if row.recent is None else row.recent.total_ms
        table.add_row(_name(row), *took, Text(NOT_KNOWN if total is None else _ms(total), style="bold"))
    return table


def _table(heads: Sequence[tuple[str, bool]]) -> Table:
    """Where there is no room for all, sessions' names in the first column are cut, and no figure."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for at, (head, words) in enumerate(heads):
        table.add_column(Text(head), justify="left" if words else "right", no_wrap=at > 0)
    return table


def _name(row: SessionRow) -> Text:
    name = row.id if row.owner == ANONYMOUS else f"{row.owner}/{row.id}"
    return Text(shown(name), style="bold", no_wrap=True, overflow="ellipsis")


def _state(row: SessionRow) -> str:
    return f"{shown(row.state)}, {row.in_flight} in flight" if row.in_flight > 1 else shown(row.state)


def _reuse(row: SessionRow) -> str:
    ratio = None if row.recent is None else row.recent.reuse_ratio
    return NOT_KNOWN if ratio is None else f"{ratio:.0%}"


def _kind(newest: Latest) -> Text:
    reason = newest.cache.reason
    return Text("delta", style="green") if reason is None else Text(f"key, {shown(reason)}", style="yellow")


def _drift(drift: float | None, budget: float | None) -> str | Text:
    if drift is None:
        return NOT_KNOWN
    if budget is None or drift <= budget:
        return f"{drift:.4f}"
    return Text(f"over, {drift:.4f}", style="bold red")


def _chunks(newest: Latest) -> str:
    chunks = newest.history
    return NOT_KNOWN if chunks is None else f"{chunks.held} / {chunks.kept} / {chunks.dropped}"


def _ms(took_ms: float) -> str:
    return f"{took_ms:.0f}" if took_ms >= 100 else f"{took_ms:.1f}"
