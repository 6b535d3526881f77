"""`stillframe eval --prefix-caches`: what is kept of a prefix within a frame and across frames.

Knows options and the shipped configurations; other rooms do the work, imported on use.
"""

from __future__ import annotations

from pathlib import Path

import typer

from stillframe.errors import ConfigError
from stillframe_lab.cli.evidence import EvidenceOptions, family_of
from stillframe_lab.cli.shipped import TINY_PI0

EPISODES, SEED = 60, 1000


def compare_prefix_caches(options: EvidenceOptions, execute: int | None) -> None:
    """Play the same seeds with each way to keep a prefix, race them, and write a report."""
    from stillframe_lab.ablation.prefix import PrefixPlan
    from stillframe_lab.ablation.prefix_run import run_prefix
    from stillframe_lab.ablation.speed import UntrainedModel
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.train.pi0.untrained import save_untrained_pi0

    checkpoint = options.checkpoint or TINY_PI0
    if not checkpoint.is_dir():
        raise ConfigError(f"{checkpoint}: no such folder; `stillframe train` makes it, or name another by --checkpoint")
    seed = SEED if options.seed is None else options.seed
    plan = PrefixPlan(family_of(checkpoint, options.config, execute), options.episodes or EPISODES, seed)
    untrained = UntrainedModel("random weights: prefix 1024 wide, expert 512, 8 layers", save_untrained_pi0)
    folders = Folders(options.run or Path("runs/prefix"), options.out or Path("docs/ablation/prefix"))
    with user_errors(), AblationBar() as bar:
        written = run_prefix(plan, folders, options.workers, untrained, bar)
    typer.echo(f"written: {folders.out}/{', '.join(written)}")
