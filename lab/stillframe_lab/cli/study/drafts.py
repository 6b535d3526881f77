"""`stillframe study drafts`. Parses options; the lab's room drafts does the work, imported on use."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import Device, load_config
from stillframe.domain import ReuseMode
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import (
    Checkpoint,
    Config,
    Dtype,
    Hz,
    Out,
    Seed,
    Task,
    Threads,
    Variant,
    Weights,
)
from stillframe_lab.cli.shipped import TINY, knobs_of


def drafts_command(
    checkpoint: Checkpoint = TINY,
    config: Config = None,
    reuse: Annotated[ReuseMode, typer.Option(help="What is reused between frames.")] = "off",
    task: Task = "pick",
    variant: Variant = None,
    hz: Hz = 10,
    episodes: Annotated[int, typer.Option(min=1, help="Of each way to take sums.")] = 20,
    seed: Seed = 1000,
    device: Annotated[Device, typer.Option()] = "auto",
    dtype: Dtype = "bfloat16",
    weights: Weights = None,
    threads: Threads = 1,
    out: Out = Path("docs/drafts"),
) -> None:
    """Compare exact and strict drafts, frame by frame.

    The arm plays what exact drafts answer; each frame is decoded again by strict ones, and what differs is counted. In
    bfloat16 rounding shows. A policy that decodes tokens, as OpenVLA.
    """
    require_extras("sim")
    from stillframe.daemon.serve import open_model
    from stillframe_lab.drafts.report import run_drafts
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.evaluate import Evaluation, with_defaults
    from stillframe_lab.progress import AblationBar

    loading = {"device": device, "dtype": dtype, "weights": weights, "threads": threads}
    deployed = with_local_checkpoint(load_config(knobs_of(checkpoint, config), {"checkpoint": checkpoint, **loading}))
    plan = with_defaults(Evaluation(task, episodes, seed, hz, variant=variant))
    with user_errors(), AblationBar() as bar:
        run_drafts(plan, partial(open_model, deployed), replace(deployed.reuse, mode=reuse), out, bar)
    typer.echo(f"written: {out}/README.md, results.json")
