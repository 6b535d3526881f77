"""Asks the operator before an arm moves. Without a terminal the answer is no."""

from __future__ import annotations

import sys

WORD = "yes"


def confirmed(warning: str) -> bool:
    """Show what is about to happen; whether the operator typed yes."""
    sys.stdout.write(f"{warning}\nKeep the power switch in reach. Type {WORD} to go on: ")
    sys.stdout.flush()
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    return answer.strip().lower() == WORD
