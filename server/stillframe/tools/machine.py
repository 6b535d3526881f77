"""Describe the machine that figures are measured on. Reads Linux's files where they exist."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

CPU_FILE = Path("/proc/cpuinfo")
SETS = {"amx": "amx_tile", "avx512": "avx512f", "avx2": "avx2"}  # name -> its flag, the fastest at matrices first


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


def instruction_set(cpu_file: Path = CPU_FILE) -> str:
    """What the CPU multiplies matrices by: amx, avx512, avx2; else its architecture."""
    lines = cpu_file.read_text(encoding="utf-8").splitlines() if cpu_file.is_file() else []
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    return next((name for name, flag in SETS.items() if flag in flags), platform.machine())


def slug(name: str) -> str:
    """A device's name as part of a file's: lower-case words with dashes between, without what a trademark adds."""
    bare = re.sub(r"\((r|tm)\)|@ [0-9.]+ghz", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9.]+", bare))
