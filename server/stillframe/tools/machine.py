"""Describe the machine that figures are measured on. Reads Linux's files where they exist."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

CPU_FILE = Path("/proc/cpuinfo")


def machine(cpu_file: Path = CPU_FILE) -> dict[str, Any]:
    """CPU model, usable cores, load average and Python version."""
    return {
        "cpu": _cpu(cpu_file),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def _cpu(file: Path) -> str:
    """The CPU's model name."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
