"""What `stillframe eval` does with --ablation and --memory: many cells, kept as they are done, and a report.

Knows options and where a checkpoint's knobs stand; others work, imported on use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.shipped import SHIPPED, TINY, TINY_CONFIG, TINY_MEMORY, TINY_WRIST


@dataclass(frozen=True)
class Typed:
    """Options of both; None: what each has of its own."""

    checkpoint: Path | None
    config: Path | None
    episodes: int | None
    seed: int | None
    variant: str | None
    out: Path | None
    run: Path | None
    workers: int


def knobs_of(checkpoint: Path, file: Path | None) -> Path | None:
    """The YAML to read: the one that was named, or one of ours for a checkpoint of ours."""
    ours = {folder.resolve(): config for folder, config in SHIPPED.items() if config.is_file()}
    return file or ours.get(checkpoint.resolve())


def ablate(typed: Typed, episodes: int, seed: int) -> None:
    """Every way to reuse: play, time and write what is missing."""
    require_extras("charts")
    from stillframe_lab.ablation.plan import AblationPlan
    from stillframe_lab.ablation.run import run_ablation
    from stillframe_lab.ablation.speed import UntrainedModel
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.train.new_checkpoint import save_untrained

    episodes, seed = typed.episodes or episodes, seed if typed.seed is None else typed.seed
    if episodes < 2:
        raise ConfigError(f"--episodes {episodes}: the ablation plays two tasks; expected at least 2")
    checkpoint = typed.checkpoint or TINY
    knobs = load_config(knobs_of(checkpoint, typed.config), {"checkpoint": checkpoint}).reuse
    plan = AblationPlan(knobs, checkpoint, TINY_WRIST, episodes, seed)
    untrained = UntrainedModel("random weights: hidden 1024, 16 layers", save_untrained)
    folders = Folders(typed.run or Path("runs/ablation"), typed.out or Path("docs/ablation"))
    with user_errors(), AblationBar() as bar:
        run_ablation(plan, folders, typed.workers, untrained, bar)
    typer.echo(f"written: {folders.out}/README.md, results.json, reuse.png, speed.png, strip.png")


def remember(typed: Typed) -> None:
    """Every way to keep older frames: time, play and write what is missing."""
    require_extras("charts")
    from stillframe_client.sim.cues import VARIANTS
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.history.plan import EPISODES, HARD, SEED, HistoryPlan
    from stillframe_lab.history.run import run_memory
    from stillframe_lab.progress import AblationBar

    variant, checkpoint = typed.variant or HARD, typed.checkpoint or TINY_MEMORY
    if variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: expected one of {', '.join(VARIANTS)}")
    knobs = load_config(knobs_of(checkpoint, typed.config) or TINY_CONFIG, {"checkpoint": checkpoint})
    seed = SEED if typed.seed is None else typed.seed
    plan = HistoryPlan(checkpoint, knobs.reuse, knobs.history, typed.episodes or EPISODES, seed, variant)
    folders = Folders(typed.run or Path("runs/memory"), typed.out or Path("docs/memory"))
    with user_errors(), AblationBar() as bar:
        written = run_memory(plan, folders, typed.workers, bar)
    typer.echo(f"written: {folders.out}/{', '.join(written)}")
