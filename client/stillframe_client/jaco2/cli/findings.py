"""What `check` found: a line each, ok, warning or wrong, printed as it is found."""

from __future__ import annotations

import sys
from typing import List, Tuple

OK, WARNING, WRONG = "ok", "warning", "wrong"


class Findings:
    """The table of one check."""

    def __init__(self) -> None:
        self.lines: List[Tuple[str, str, str]] = []  # level, part, text

    def ok(self, part: str, text: str) -> None:
        """As it should be."""
        self._add(OK, part, text)

    def warning(self, part: str, text: str) -> None:
        """Works, and may not be what is meant."""
        self._add(WARNING, part, text)

    def wrong(self, part: str, text: str) -> None:
        """A run would be refused, or not work."""
        self._add(WRONG, part, text)

    def count(self, level: str) -> int:
        """How many lines are of this level."""
        return sum(line[0] == level for line in self.lines)

    def _add(self, level: str, part: str, text: str) -> None:
        self.lines.append((level, part, text))
        indented = text.replace("\n", "\n" + " " * 20)
        sys.stdout.write(f"{level:<8} {part:<10} {indented}\n")
        sys.stdout.flush()
