"""What a figure was measured on. Knows Linux's files, and does without them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

CPU_FILE = Path("/proc/cpuinfo")


def machine(cpu_file: Path = CPU_FILE) -> dict[str, Any]:
    """The processor, how many cores of it are ours, and how loaded they are."""
    return {
        "cpu": _cpu(cpu_file),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def _cpu(file: Path) -> str:
    """The model's name as the system says it."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
