"""A page of Markdown of which a part, between two marks, is written by a command.

Knows marks; not what stands between them.
"""

from __future__ import annotations

from pathlib import Path


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put text between the page's marks, each a line. Raises ValueError for a page that lacks them."""
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} lacks the lines {begin} and {end}, between which the table goes")
    page.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
