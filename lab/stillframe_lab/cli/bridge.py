"""`stillframe eval --bridge` and `stillframe demo --bridge`: the Jaco2 bridge in closed loop.

Knows options and the shipped configurations; other rooms do the work, imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from stillframe.tools.extras import require_extras
from stillframe_lab.cli.evidence import EvidenceOptions
from stillframe_lab.cli.shipped import TINY_CONFIG

BRIDGE_CONFIG = Path("configs/jaco2-sim.toml")
EPISODES, SEED = 60, 1000


def evaluate_bridge(options: EvidenceOptions, task: str, cells: Sequence[str]) -> None:
    """Play the same seeds through the bridge in each mode, with and without network delay, and write a report."""
    require_extras("sim")
    from stillframe_lab.bridge.cells import CELLS, Results, cells_named
    from stillframe_lab.bridge.report import write_report
    from stillframe_lab.bridge.run import BridgeEvaluation, play_missing
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import BridgeBar

    first, config = SEED if options.seed is None else options.seed, options.config or TINY_CONFIG
    seeds = range(first, first + (options.episodes or EPISODES))
    chosen, results = cells_named(cells), Results(options.run or Path("runs/bridge"))
    out = options.out or Path("docs/bridge")
    with user_errors(), BridgeBar() as bar:
        play_missing(BridgeEvaluation(config, BRIDGE_CONFIG, task, seeds, tuple(chosen)), results, bar)
    write_report(results, CELLS, {"task": task, "seed": first, "policy": str(config)}, out)
    typer.echo(f"written: {out}/README.md, results.json")


def show_bridge(config: Path, out: Path) -> bool:
    """Drive the simulated arm through the bridge in realtime -> whether enough succeeded."""
    require_extras("sim", "charts")
    from stillframe_lab.bridge.demo import run_demo

    return run_demo(config, BRIDGE_CONFIG, out, "realtime", Console())
