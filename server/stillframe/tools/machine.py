"""Describe the machine that figures are measured on, and the commit that they are of. Reads Linux's files; asks git."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillframe.daemon.cores import usable_cores

CPU_FILE = Path("/proc/cpuinfo")
SETS = {"amx": "amx_tile", "avx512": "avx512f", "avx2": "avx2"}  # name -> its flag, the fastest at matrices first
SOURCES = Path(__file__).resolve().parents[1]


def machine(cpu_file: Path = CPU_FILE) -> dict[str, Any]:
    """CPU model, usable cores, load average and Python version."""
    return {
        "cpu": next(_lines(cpu_file, "model name"), platform.processor() or platform.machine()),
        "cores": usable_cores(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def cpu_flags(cpu_file: Path = CPU_FILE) -> set[str]:
    """What the CPU can do, by the kernel's names; none where they are not told."""
    x86, arm = next(_lines(cpu_file, "flags"), ""), next(_lines(cpu_file, "Features"), "")
    return {*x86.split(), *arm.split()}


def instruction_set(cpu_file: Path = CPU_FILE) -> str:
    """What the CPU multiplies matrices by: amx, avx512, avx2; else its architecture."""
    flags = cpu_flags(cpu_file)
    return next((name for name, flag in SETS.items() if flag in flags), platform.machine())


def slug(name: str) -> str:
    """A device's name as part of a file's: lower-case words with dashes between, without what a trademark adds."""
    bare = re.sub(r"\((r|tm)\)|@ [0-9.]+ghz", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9.]+", bare))


def commit(sources: Path = SOURCES) -> str | None:
    """The commit of the checkout that `sources` lies in, "+" behind it where a file there was changed since.

    None where it lies in no checkout, or in one that does not hold it, such as that of an environment beside it.
    """
    if _git(sources, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    changed = _git(sources, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{_git(sources, 'rev-parse', 'HEAD')}{'+' if changed else ''}"


def _git(folder: Path, *words: str) -> str | None:
    """What git prints; None where it fails or is not there."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, "-C", str(folder), *words], capture_output=True, text=True, check=False)  # noqa: S603 (no input)
    return done.stdout.strip() if done.returncode == 0 else None


def _lines(file: Path, name: str) -> Iterator[str]:
    """What the file's lines say under a name, the first first."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
