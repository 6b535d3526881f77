"""A comparison as a table for a terminal of 80 columns, and as JSON.

Knows what was compared; no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stillframe_lab.parity.ledger import Compared
from stillframe_lab.parity.run import Parity

FIRST = 5  # that are named of many
COLOURS = {"ok": "green", "over": "red", "-": "dim"}


def tables(parity: Parity) -> Iterator[RenderableType]:
    """A line a stage, what was left out, and the verdict."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("stage", "cases", "worst", "tolerance", "", "worst case"):
        table.add_column(
            column, justify="right" if column in {"cases", "worst", "tolerance"} else "left", overflow="fold"
        )
    for each in parity.ledger.stages.values():
        table.add_row(*_row(each))
    yield table
    yield ""
    for case, why in [*parity.ledger.left_out.items()][:FIRST]:
        yield Text(f"left out: {case}: {why}")
    if len(parity.ledger.left_out) > FIRST:
        yield Text(f"left out: {len(parity.ledger.left_out) - FIRST} more")
    if parity.unknown_keys:
        yield Text(f"keys not known: {_listed(parity.unknown_keys)}")
    yield Text(verdict(parity), style=COLOURS[("ok", "over", "over")[parity.status]])


def verdict(parity: Parity) -> str:
    """One line."""
    ledger = parity.ledger
    if not ledger.compared:
        others = [family for family in parity.layouts if family != parity.family]
        hint = f"; its keys are those of {' or '.join(others)}" if others else ""
        return f"nothing could be compared: the checkpoint is of {parity.family}{hint}"
    over = ledger.first_over
    if over is not None:
        many = f"{len(over.over)} of {len(over.cases)} cases"
        return f"over from stage {over.stage.name} on: {many}, worst {over.worst_case}{_left_out(parity)}"
    count = sum(bool(each.cases) for each in ledger.stages.values())
    return f"{count} stages within tolerance{_left_out(parity)}"


def _left_out(parity: Parity) -> str:
    return f"; {len(parity.ledger.left_out)} left out" if parity.ledger.left_out else ""


def document(parity: Parity) -> dict[str, Any]:
    """As JSON writes it; a worst difference of null is not finite, or of another shape."""
    stages = [
        {
            "stage": each.stage.name,
            "cases": len(each.cases),
            "over": sorted(each.over),
            "worst": each.worst if math.isfinite(each.worst) else None,
            "worst_case": each.worst_case,
            "why": each.why,
            "tolerance": each.stage.tolerance,
            "verdict": each.verdict,
        }
        for each in parity.ledger.stages.values()
    ]
    first = parity.ledger.first_over
    return {
        "checkpoint": str(parity.checkpoint),
        "golden": str(parity.golden),
        "family": parity.family,
        "status": parity.status,
        "verdict": verdict(parity),
        "first_over": None if first is None else first.stage.name,
        "stages": stages,
        "left_out": parity.ledger.left_out,
        "unknown_keys": list(parity.unknown_keys),
    }


def _row(each: Compared) -> tuple[str | Text, ...]:
    allowed = f"{each.stage.tolerance:.0e}" if each.stage.tolerance else "equal"
    if not each.cases:
        return each.stage.name, "0", "-", allowed, Text("not in the file", style="dim"), ""
    worst = each.why or (f"{each.worst:.1e}" if each.worst else "0")
    return (
        each.stage.name,
        str(len(each.cases)),
        worst,
        allowed,
        Text(each.verdict, style=COLOURS[each.verdict]),
        each.worst_case,
    )


def _listed(names: Any) -> str:
    more = len(names) - FIRST
    return f"{len(names)}: {', '.join(names[:FIRST])}" + (f" and {more} more" if more > 0 else "")
