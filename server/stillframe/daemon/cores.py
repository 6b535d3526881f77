"""How many cores this process may use. Asks the kernel; knows no container's quota of their time."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that the process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
