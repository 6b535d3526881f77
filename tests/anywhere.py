"""Run the rooms whose tests compare numbers as on other machines: instruction sets, orders of summation, threads, load.

    python tests/anywhere.py [--level TEXT] [pytest's arguments]

Prints a line a level and exits 1 where one failed. Knows what the numeric rooms are; what they test is theirs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("goldens", "models", "reuse", "engine", "memory", "bench/test_ask.py", "bench/latency", "test_local.py")
PYTEST = ["-m", "not slow and not gpu", "-q", "-p", "no:cacheprovider", "--dist", "loadfile"]
SPIN = "while True: pass"


@dataclass(frozen=True)
class Level:
    """A kind of machine: its environment, the flag of /proc/cpuinfo that it needs, whether its cores are busy."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    threads: int = 1  # for each product
    busy: bool = False

    @property
    def workers(self) -> int:
        """How many processes run tests side by side: threads that wait for a core make each other slow."""
        return max(1, (os.cpu_count() or 1) // self.threads)


KINDS = (
    Level("oldest", {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}),
    Level("AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}, "avx2"),
    Level("AVX-512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}, "avx512f"),
    Level("AMX", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "ATEN_CPU_CAPABILITY": "avx512"}, "amx_bf16"),
    Level("MKL compatible", {"MKL_CBWR": "COMPATIBLE"}),
)
THREADS = {1: "1 thread", 2: "2 threads"}
LEVELS = (
    *(replace(kind, name=f"{kind.name}, {THREADS[count]}", threads=count) for kind in KINDS for count in THREADS),
    Level("beside busy cores", busy=True),
)


def cpu_flags() -> set[str]:
    """Return what this processor can do, in Linux's words; nothing is known elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


@contextmanager
def load(*, busy: bool) -> Iterator[None]:
    """Keep every core busy with something else while the block lasts, if asked to."""
    with ExitStack() as stack:
        for _ in range((os.cpu_count() or 1) if busy else 0):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN]))
            stack.callback(process.kill)
        yield


def passes(level: Level, args: list[str]) -> bool:
    """Run the numeric rooms at one level; whether all their tests passed."""
    command = [sys.executable, "-m", "pytest", *PYTEST, "-n", str(level.workers)]
    threads = {"OMP_NUM_THREADS": str(level.threads), "MKL_NUM_THREADS": str(level.threads)}
    environment = {**os.environ, **level.environment, **threads}
    with load(busy=level.busy):
        rooms = args or [f"tests/{room}" for room in ROOMS]
        return subprocess.run([*command, *rooms], cwd=ROOT, env=environment, check=False).returncode == 0


def main() -> int:
    """Run what is asked for and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", default="", help="only levels whose name holds this text")
    asked, args = parser.parse_known_args()
    came, flags = {}, cpu_flags()
    for level in (level for level in LEVELS if asked.level in level.name):
        if level.needs and level.needs not in flags:
            came[level.name] = f"not run: this processor has no {level.needs}"
            continue
        print(f"\n=== {level.name} ===", flush=True)
        began = time.monotonic()
        passed = passes(level, args)
        came[level.name] = f"{'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s"
    print()
    for name, what in came.items():
        print(f"{name:28} {what}")
    return int(any(what.startswith("FAILED") for what in came.values()))


if __name__ == "__main__":
    sys.exit(main())
