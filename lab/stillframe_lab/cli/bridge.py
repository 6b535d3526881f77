"""`stillframe bridge-eval` and `bridge-demo`: the Jaco2 bridge in closed loop. Parses options; other rooms work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.tools.extras import require_extras
from stillframe_lab.cli.shipped import TINY_CONFIG

BRIDGE_CONFIG = Path("configs/jaco2-sim.toml")


def bridge_eval_command(
    config: Annotated[Path, typer.Option(help="The daemon's configuration.")] = TINY_CONFIG,
    bridge: Annotated[Path, typer.Option(help="The bridge's configuration.")] = BRIDGE_CONFIG,
    task: Annotated[str, typer.Option(help="reach, pick or push.")] = "pick",
    episodes: Annotated[int, typer.Option(min=1, help="Of each cell.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the first episode.")] = 1000,
    cell: Annotated[
        list[str] | None, typer.Option(help="Which to play, more than once for several; default all.")
    ] = None,
    run: Annotated[Path, typer.Option(help="Where episodes are kept: what is there is not played again.")] = Path(
        "runs/bridge"
    ),
    out: Annotated[Path, typer.Option(help="Where results.json and README.md go.")] = Path("docs/bridge"),
) -> None:
    """Play the same seeds through the bridge in each mode, with and without network delay, and write a report."""
    require_extras("sim")
    from stillframe_lab.bridge.cells import CELLS, Results, cells_named
    from stillframe_lab.bridge.report import write_report
    from stillframe_lab.bridge.run import BridgeEvaluation, play_missing
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import BridgeBar

    cells, results = cells_named(cell or []), Results(run)
    with user_errors(), BridgeBar() as bar:
        plan = BridgeEvaluation(config, bridge, task, range(seed, seed + episodes), tuple(cells))
        play_missing(plan, results, bar)
    write_report(results, CELLS, {"task": task, "seed": seed, "policy": str(config)}, out)
    typer.echo(f"written: {out}/README.md, results.json")


def bridge_demo_command(
    config: Annotated[Path, typer.Option(help="The daemon's configuration.")] = TINY_CONFIG,
    bridge: Annotated[Path, typer.Option(help="The bridge's configuration.")] = BRIDGE_CONFIG,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/bridge-demo"),
    mode: Annotated[str, typer.Option(help="lockstep or realtime.")] = "realtime",
) -> None:
    """Drive the simulated arm through the bridge, with an animation and the report of its logs; fails under 3 of 5."""
    require_extras("sim", "charts")
    from stillframe_lab.bridge.demo import run_demo

    if not run_demo(config, bridge, out, mode, Console()):
        raise typer.Exit(1)
