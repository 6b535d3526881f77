"""The table of hostile neighbours in Markdown.

Knows Markdown; measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillframe.tools.marked_page import replace_between

BEGIN, END = "<!-- hostile: begin -->", "<!-- hostile: end -->"
NAMES = {"before": "before", "now": "now"}


def table(document: dict[str, Any]) -> str:
    """Of each kind: a robot's p50 and p99 alone and beside it, the bound, frames answered, the daemon's memory."""
    return "\n".join(_lines(document)) + "\n"


def replace_table(page: Path, document: dict[str, Any]) -> None:
    """Put the table between the page's marks. Raises ValueError for a page that lacks them."""
    replace_between(page, BEGIN, END, table(document))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    cpu, cores = document["machine"]["cpu"], document["machine"]["cores"]
    yield f"Measured on {cpu}, {cores} cores; one robot at {document['hz']:g} Hz over {document['wire']}, "
    yield f"{document['rounds']} rounds in turns; milliseconds; memory in MiB: before, largest, after."
    yield ""
    yield "| neighbour | daemon | alone p50 | alone p99 | beside p50 | beside p99 | bound | answered | memory | kept |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for row in document["kinds"]:
        for name in NAMES:
            if name in row:
                yield _line(row["kind"], name, row[name])


def _line(kind: str, name: str, row: dict[str, Any]) -> str:
    if "beside_ms" not in row:
        return f"| {kind} | {name} | | | | | | 0 % | | no: {row['reason'][:80]} |"
    alone, beside, rss = row["alone_ms"], row["beside_ms"], row["rss_mib"]
    memory = " / ".join(f"{rss[part]:.0f}" for part in ("before", "largest", "after")) if rss else ""
    numbers = [alone["p50"], alone["p99"], beside["p50"], beside["p99"], row["bound_ms"]]
    cells = [f"{number:.0f}" for number in numbers]
    share = f"{100 * row['answered_share']:.1f} %"
    return f"| {kind} | {name} | {' | '.join(cells)} | {share} | {memory} | {'yes' if row['within'] else 'no'} |"
