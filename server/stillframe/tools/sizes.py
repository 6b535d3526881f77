"""Bytes as a terminal names them. Knows units; nothing of what takes the room."""

from __future__ import annotations

UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def size(amount: float) -> str:
    """Bytes in the largest unit that leaves more than one."""
    for unit, name in UNITS:
        if amount >= unit:
            return f"{amount / unit:.1f} {name}"
    return f"{amount:.0f} B"
