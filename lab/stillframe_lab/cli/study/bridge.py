"""`stillframe study bridge`. Parses options; the lab's room bridge does the work, imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import Episodes, JacoTask, Out, Seed
from stillframe_lab.cli.shipped import BRIDGE_CONFIG, TINY_CONFIG


def bridge_command(
    config: Annotated[Path, typer.Option(help="The daemon's configuration.")] = TINY_CONFIG,
    task: JacoTask = "pick",
    cell: Annotated[
        list[str] | None,
        typer.Option(
            help="eval, lockstep, realtime, lockstep-100ms or realtime-100ms; more than once for several, default all. "
            "The rest stays as --run has it."
        ),
    ] = None,
    episodes: Episodes = 60,
    seed: Seed = 1000,
    out: Out = Path("docs/bridge"),
    run: Annotated[
        Path, typer.Option(help="Where finished episodes are kept; delete it after a change of code.")
    ] = Path("runs/bridge"),
) -> None:
    """Play through the Jaco2 bridge, in real time.

    The simulated arm is driven by daemon and bridge, lockstep and realtime, without network delay and with 100 ms, and
    on the same seeds without a bridge; about twenty minutes.
    """
    require_extras("sim")
    from stillframe_lab.bridge.cells import CELLS, Results, cells_named
    from stillframe_lab.bridge.report import write_report
    from stillframe_lab.bridge.run import BridgeEvaluation, play_missing
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.progress import BridgeBar

    plan = BridgeEvaluation(config, BRIDGE_CONFIG, task, range(seed, seed + episodes), tuple(cells_named(cell or ())))
    results = Results(run)
    with user_errors(), BridgeBar() as bar:
        play_missing(plan, results, bar)
    write_report(results, CELLS, {"task": task, "seed": seed, "policy": str(config)}, out)
    typer.echo(f"written: {out}/README.md, results.json")
