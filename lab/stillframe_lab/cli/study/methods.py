"""`stillframe study methods`. Parses options; the lab's room methods does the work, imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import load_config
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.libero import bench_of
from stillframe_lab.cli.options import Checkpoint, Config, Distractor, Execute, Out, Pictures, Run, Seed, Tasks, Workers
from stillframe_lab.cli.shipped import knobs_of


def methods_command(
    suite: Annotated[
        str, typer.Option(help="jaco2, libero_spatial, libero_object, libero_goal or libero_10.", show_default=False)
    ],
    checkpoint: Checkpoint,
    config: Config = None,
    tasks: Tasks = None,
    execute: Execute = None,
    pictures: Pictures = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="A method to play beside off, such as adaptive or fastv; more than once for several, default all. "
            "What was played of others is reported too."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Of each method, over all tasks.")] = 200,
    seed: Seed = 0,
    out: Out = Path("docs/methods"),
    run: Run = Path("runs/methods"),
    workers: Workers = 2,
    *,
    distractor: Distractor = False,
) -> None:
    """Compare every way to reuse or to prune, in a suite.

    All play the same initial states in the same simulator, in turn, with a policy that was trained for the suite.
    Tables of other suites and policies stay in --out.
    """
    require_extras("sim", "charts")
    from stillframe_lab.ablation.cell import open_cpu_model
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.libero.suites import task_numbers
    from stillframe_lab.methods.cell import local_protocol, patches_of
    from stillframe_lab.methods.plan import MethodsPlan, method_arms
    from stillframe_lab.methods.run import run_methods
    from stillframe_lab.progress import AblationBar

    bench = bench_of(suite, checkpoint, pictures, distractor=distractor)
    checkpoint = local_folder(checkpoint)
    deployed = load_config(knobs_of(checkpoint, config), {"checkpoint": checkpoint})
    model = open_cpu_model(checkpoint, deployed.checkpoint_config)
    execute = execute or deployed.decoding.execute or None
    local_protocol(model.info, bench, execute)
    plan = MethodsPlan(
        bench,
        task_numbers(tasks, bench.tasks),
        episodes,
        seed,
        method_arms(deployed.reuse, model, checkpoint, patches_of(model), masks=bench.masks),
        checkpoint,
        execute,
        deployed.checkpoint_config,
        tuple(arm or ()),
    )
    with user_errors(), AblationBar() as bar:
        written = run_methods(plan, Folders(run, out), workers, bar)
    typer.echo(f"written: {out}/{', '.join(written)}")
