"""The whole view of one reading: totals above, sessions below, as many as the terminal has lines for.

Knows readings and a size; no terminal.
"""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from stillframe.tools.top.sessions import LINES_A_SESSION, most_active, session_tables
from stillframe.tools.top.snapshot import Reading
from stillframe.tools.top.totals import drift_budget, header

LINES_BESIDE = 14  # of the view, that are no session's


def view(reading: Reading, width: int, height: int | None = None) -> Group:
    """All of it; `height`: the terminal's lines, None: as many as it takes."""
    snapshot = reading.snapshot
    room = len(snapshot.sessions) if height is None else max(1, (height - LINES_BESIDE) // LINES_A_SESSION)
    rows = most_active(snapshot.sessions, room)
    left_out = len(snapshot.sessions) - len(rows) + snapshot.not_listed
    more = Text(f"\nand {left_out} more, which were used longer ago", style="dim") if left_out else ""
    above = list(header(reading))
    for line in above:
        line.no_wrap, line.overflow = height is not None, "ellipsis"
    return Group(*above, "", *session_tables(rows, drift_budget(snapshot.settings), width), more)
