"""`stillframe study memory`. Parses options; the lab's room history does the work, imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import Checkpoint, Config, Out, Run, Seed, Workers
from stillframe_lab.cli.shipped import TINY_CONFIG, TINY_MEMORY, knobs_of


def memory_command(
    checkpoint: Checkpoint = TINY_MEMORY,
    config: Config = None,
    variant: Annotated[
        str, typer.Option(help="What is remembered: simple, ordered, distractor or ordered-distractor.")
    ] = "ordered",
    cell: Annotated[
        list[str] | None,
        typer.Option(
            help="What to make: a cell by name, proof (the cells of one cube), speed, long or utility; more than once "
            "for several, default all. The rest stays as --out has it."
        ),
    ] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Of each cell; default 30, of the proof's 100.")] = None,
    seed: Seed = 40_000,
    out: Out = Path("docs/memory"),
    run: Run = Path("runs/memory"),
    workers: Workers = 2,
) -> None:
    """Compare every way to keep older frames.

    On the task remember: lamps flash, and the arm waits 16, 60 or 120 steps before it may reach for what was shown,
    with every older frame, with the few that a gate, a score or a window keeps, and with none.
    """
    require_extras("sim", "charts")
    from stillframe_client.sim.cues import VARIANTS
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.history.plan import EPISODES, PROOF_EPISODES, HistoryPlan
    from stillframe_lab.history.run import run_memory
    from stillframe_lab.progress import AblationBar

    if variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: expected one of {', '.join(VARIANTS)}")
    checkpoint = local_folder(checkpoint)
    knobs = load_config(knobs_of(checkpoint, config) or TINY_CONFIG, {"checkpoint": checkpoint})
    of_each, of_the_proof = episodes or EPISODES, episodes or PROOF_EPISODES
    plan = HistoryPlan(checkpoint, knobs.reuse, knobs.history, of_each, seed, variant, of_the_proof)
    with user_errors(), AblationBar() as bar:
        written = run_memory(plan, Folders(run, out), workers, bar, cell or ())
    typer.echo(f"written: {out}/{', '.join(written)}")
