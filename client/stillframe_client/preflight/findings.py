"""What a preflight found: lines of a table, from ok to wrong.

Knows no contract and no daemon.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Sequence


class Level(Enum):
    """How a finding counts."""

    OK = "ok"
    WARNING = "warning"  # the frame is taken, and not as its sender may think
    WRONG = "wrong"  # the frame would be refused


@dataclass(frozen=True)
class Finding:
    """One line."""

    level: Level
    subject: str
    said: str


def table(findings: Sequence[Finding]) -> str:
    """Return the lines, subjects aligned."""
    width = max([len(each.subject) for each in findings], default=0)
    return "".join(f"{each.level.value:<7}  {each.subject:<{width}}  {each.said}\n" for each in findings)


def refused(findings: Sequence[Finding]) -> bool:
    """Return whether any is wrong."""
    return any(each.level is Level.WRONG for each in findings)
