"""`python tests/client/jaco2/faults/measure.py [--runs N] [--only NAME ...] [--tables]`: writes README.md's tables.

The fault matrix from results: counted on the virtual clock, measured with real processes. `--tables` writes what needs
no measurement. Knows where README.md is; no fault.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from fault_kit import tables
from fault_kit.in_ticks import happened
from fault_kit.matrix import BY_NAME, HOLD, LEFT, MATRIX, MODES
from fault_kit.real_faults import NAMESPACE, Followed, no_namespace, passing, with_processes
from fault_kit.virtual import VirtualLoop, virtual_s
from fault_kit.virtual_faults import MAKE as VIRTUAL

from stillframe_client.jaco2.bridge import episode

MODE = "realtime"  # of the real processes
RESULTS = Path(__file__).with_name("results.json")


def counted(name: str) -> dict[str, tuple[int, int | None]]:
    """Mode -> ticks to rest and to the stop."""
    episode.now_s = virtual_s
    found = {}
    for mode in MODES:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner, tempfile.TemporaryDirectory() as folder:
            came = runner.run(happened(name, mode, Path(folder)))
        left = BY_NAME[name].follows == LEFT
        found[mode] = (came.tool_rest if left else came.rest, None if BY_NAME[name].stop_ticks is None else came.stop)
    return found


def measured(names: list[str]) -> dict[str, Followed]:
    """One run of each; those that pass, in one run together."""
    pass_by = [name for name in names if BY_NAME[name].follows == HOLD]
    with tempfile.TemporaryDirectory() as folder:
        found = passing(pass_by, MODE, Path(folder)) if pass_by else {}
    for name in names:
        if name not in found:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = with_processes(name, MODE, Path(folder))
    return found


def milliseconds(came: list[Followed], follows: str) -> dict[str, list[float] | None]:
    """Median and largest, to rest and to the stop."""
    if follows == "nothing":
        return {"rest": None, "stop": None}
    rest = [max(each.came.last_sent_ms if follows == LEFT else each.came.rest_ms, 0.0) for each in came]
    stop = [each.came.stop_ms for each in came if each.came.stop_ms is not None]
    return {
        "rest": [statistics.median(rest), max(rest)],
        "stop": [statistics.median(stop), max(stop)] if stop else None,
    }


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"faults": {}}
    if not options.tables:
        names = [fault.name for fault in MATRIX if options.only is None or fault.name in options.only]
        if no_namespace():
            names = [name for name in names if name not in NAMESPACE]
        loads = [os.getloadavg()[0], *(results.get("loads", []) if options.only else [])]
        came = [measured(names) for _ in range(options.runs)]
        for name in names:
            results["faults"][name] = {
                "ticks": counted(name) if name in VIRTUAL else None,
                "ms": milliseconds([each[name] for each in came], BY_NAME[name].follows),
            }
        results["loads"] = [min(loads), max(loads)]
        results["machine"] = f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores"
        results["runs"] = options.runs
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    tables.write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
