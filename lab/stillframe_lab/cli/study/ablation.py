"""`stillframe study ablation`. Parses options; the lab's room ablation does the work, imported on use."""

from __future__ import annotations

from pathlib import Path

import typer

from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import load_config
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import Checkpoint, Config, EpisodesOfTwo, Out, Run, Seed, Workers
from stillframe_lab.cli.shipped import TINY, TINY_WRIST, knobs_of


def ablation_command(
    checkpoint: Checkpoint = TINY,
    config: Config = None,
    episodes: EpisodesOfTwo = 100,
    seed: Seed = 1000,
    out: Out = Path("docs/ablation"),
    run: Run = Path("runs/ablation"),
    workers: Workers = 2,
) -> None:
    """Compare every reuse mode under every condition.

    Each plays reach and pick with a perfect picture, sensor noise, JPEG, a moving background and, by jaco-tiny-wrist,
    two cameras. Forced numbers of reused tokens play half as many episodes, and steps are timed.
    """
    require_extras("sim", "charts")
    from stillframe_lab.ablation.plan import AblationPlan
    from stillframe_lab.ablation.run import run_ablation
    from stillframe_lab.ablation.speed import UntrainedModel
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.train.new_checkpoint import save_untrained

    checkpoint = local_folder(checkpoint)
    knobs = load_config(knobs_of(checkpoint, config), {"checkpoint": checkpoint}).reuse
    plan = AblationPlan(knobs, checkpoint, TINY_WRIST, episodes, seed)
    untrained = UntrainedModel("random weights: hidden 1024, 16 layers", save_untrained)
    with user_errors(), AblationBar() as bar:
        run_ablation(plan, Folders(run, out), workers, untrained, bar)
    typer.echo(f"written: {out}/README.md, results.json, reuse.png, speed.png, strip.png")
