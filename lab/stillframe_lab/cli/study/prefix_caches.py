"""`stillframe study prefix-caches`. Parses options; the lab's room ablation does the work, imported on use."""

from __future__ import annotations

from pathlib import Path

import typer

from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import Config, Episodes, Execute, Folder, Out, Run, Seed, Workers
from stillframe_lab.cli.shipped import TINY_PI0
from stillframe_lab.cli.study.families import family_of


def prefix_caches_command(
    checkpoint: Folder = TINY_PI0,
    config: Config = None,
    execute: Execute = None,
    episodes: Episodes = 60,
    seed: Seed = 1000,
    out: Out = Path("docs/ablation/prefix"),
    run: Run = Path("runs/prefix"),
    workers: Workers = 2,
) -> None:
    """Compare every way to keep a pi0's prefix.

    Within a frame, across frames, both or neither: each picks cubes with a pi0 or pi0.5, and is timed.
    """
    require_extras("sim")
    from stillframe_lab.ablation.prefix import PrefixPlan
    from stillframe_lab.ablation.prefix_run import run_prefix
    from stillframe_lab.ablation.speed import UntrainedModel
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.train.pi0.untrained import save_untrained_pi0

    plan = PrefixPlan(family_of(checkpoint, config, execute), episodes, seed)
    untrained = UntrainedModel("random weights: prefix 1024 wide, expert 512, 8 layers", save_untrained_pi0)
    with user_errors(), AblationBar() as bar:
        written = run_prefix(plan, Folders(run, out), workers, untrained, bar)
    typer.echo(f"written: {out}/{', '.join(written)}")
