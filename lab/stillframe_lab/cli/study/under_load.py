"""`stillframe study under-load`. Parses options; the lab's room ablation does the work, imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe.tools.extras import require_extras
from stillframe.tools.machine import machine
from stillframe_lab.cli.options import Config, Execute, Folder
from stillframe_lab.cli.shipped import TINY
from stillframe_lab.cli.study.families import family_of


def under_load_command(
    checkpoint: Folder = TINY,
    config: Config = None,
    execute: Execute = None,
    rounds: Annotated[
        int, typer.Option(min=3, help="Episodes of each robot with each way to steer; the first two are not counted.")
    ] = 8,
    pause_ms: Annotated[float, typer.Option(min=0, help="From an answer to the robot's next frame.")] = 0.0,
    out: Annotated[
        Path,
        typer.Option(help="The page whose table of this policy is replaced; every figure goes beside it, as JSON."),
    ] = Path("docs/drift.md"),
) -> None:
    """Measure drift where robots never pause.

    Eight robots send recorded episodes to an engine, with each way to measure and to steer drift in turn: drift,
    reuse, and what measuring costs.
    """
    require_extras("sim")
    from stillframe_lab.ablation.cell import open_cpu_model
    from stillframe_lab.ablation.speed import record_episodes
    from stillframe_lab.ablation.under_load import LoadPlan, play_arms
    from stillframe_lab.ablation.under_load_report import figures, write_under_load
    from stillframe_lab.evaluation.actors import user_errors

    family = family_of(checkpoint, config, execute)
    plan = LoadPlan(family.reuse, rounds=rounds, pause_s=pause_ms / 1e3, execute=family.execute or 1)
    with user_errors():
        model = open_cpu_model(checkpoint, family.checkpoint_config)
        episodes, where = record_episodes(model, plan.episodes, plan.execute), machine()
        found = figures(plan, play_arms(plan, model, episodes), where)
    name = checkpoint.name + ("-paused" if pause_ms else "")
    write_under_load(out, name, found)
    typer.echo(f"written: {out}, {out.stem}-{name}.json")
