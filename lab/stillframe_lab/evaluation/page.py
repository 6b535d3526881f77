"""Parts of the generated reports: Markdown tables, rounded numbers, success with its interval, targets and whether met.

Knows figures as plain numbers; no measurement's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def number(value: float | None, digits: int) -> str:
    """Rounded; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def success(result: Mapping[str, Any]) -> str:
    """'198/200 = 99.0 % (96.4-99.7)'."""
    low, high = (100 * bound for bound in result["success_ci95"])
    return f"{result['wins']}/{result['episodes']} = {100 * result['success']:.1f} % ({low:.1f}-{high:.1f})"


def target(what: str, wanted: str, measured: str, *, met: bool) -> dict[str, Any]:
    """A target as results.json has it."""
    return {"what": what, "wanted": wanted, "measured": measured, "met": met}


def targets_table(targets: Sequence[Mapping[str, Any]]) -> str:
    """Targets as a table; those that are not met stand out."""
    rows = [(one["what"], one["wanted"], one["measured"], "yes" if one["met"] else "**no**") for one in targets]
    return table(("", "wanted", "measured", "reached"), rows)


def write_json(file: Path, document: Mapping[str, Any]) -> None:
    """A results document, in a form whose diffs can be read."""
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
