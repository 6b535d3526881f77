"""`stillframe eval --ablation`, `--families` and `--memory`: run all cells, caching results, and write a report.

Knows options and the configurations of shipped checkpoints; other rooms do the work, imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.shipped import FAMILIES, SHIPPED, TINY, TINY_CONFIG, TINY_MEMORY, TINY_WRIST

if TYPE_CHECKING:
    from stillframe_lab.ablation.families import Family


@dataclass(frozen=True)
class EvidenceOptions:
    """Options of all; None: the default of each."""

    checkpoint: Path | None
    config: Path | None
    episodes: int | None
    seed: int | None
    variant: str | None
    out: Path | None
    run: Path | None
    workers: int


def knobs_of(checkpoint: Path, file: Path | None) -> Path | None:
    """The YAML to read: `file`, or the shipped one of a shipped checkpoint."""
    ours = {folder.resolve(): config for folder, config in SHIPPED.items() if config.is_file()}
    return file or ours.get(checkpoint.resolve())


def ablate(options: EvidenceOptions, episodes: int, seed: int) -> None:
    """Evaluate every reuse mode: play and time what is missing, then write the report."""
    require_extras("charts")
    from stillframe_lab.ablation.plan import AblationPlan
    from stillframe_lab.ablation.run import run_ablation
    from stillframe_lab.ablation.speed import UntrainedModel
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.train.new_checkpoint import save_untrained

    episodes, seed = options.episodes or episodes, seed if options.seed is None else options.seed
    if episodes < 2:
        raise ConfigError(f"--episodes {episodes}: the ablation plays two tasks; expected at least 2")
    checkpoint = local_folder(options.checkpoint or TINY)
    knobs = load_config(knobs_of(checkpoint, options.config), {"checkpoint": checkpoint}).reuse
    plan = AblationPlan(knobs, checkpoint, TINY_WRIST, episodes, seed)
    untrained = UntrainedModel("random weights: hidden 1024, 16 layers", save_untrained)
    folders = Folders(options.run or Path("runs/ablation"), options.out or Path("docs/ablation"))
    with user_errors(), AblationBar() as bar:
        run_ablation(plan, folders, options.workers, untrained, bar)
    typer.echo(f"written: {folders.out}/README.md, results.json, reuse.png, speed.png, strip.png")


def compare_families(
    options: EvidenceOptions, names: Sequence[str], execute: int | None, episodes: int, seed: int
) -> None:
    """Evaluate every reuse mode with a policy of each family: play and time what is missing, then write the report."""
    require_extras("charts")
    from stillframe_lab.ablation.families import FamiliesPlan
    from stillframe_lab.ablation.families_run import run_families
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar

    episodes, seed = options.episodes or episodes, seed if options.seed is None else options.seed
    if episodes < 2:
        raise ConfigError(f"--episodes {episodes}: two tasks are played; expected at least 2")
    families = tuple(family_of(folder, options.config, execute) for folder in _checkpoints(options.checkpoint, names))
    folders = Folders(options.run or Path("runs/families"), options.out or Path("docs/ablation/families"))
    with user_errors(), AblationBar() as bar:
        written = run_families(FamiliesPlan(families, episodes, seed), folders, options.workers, bar)
    typer.echo(f"written: {folders.out}/{', '.join(written)}")


def _checkpoints(one: Path | None, names: Sequence[str]) -> Sequence[Path]:
    """The checkpoints to evaluate: the one that is named, else those of FAMILIES by name, else all that are there."""
    if one is not None:
        return [one]
    known = {folder.name: folder for folder in FAMILIES}
    for name in names:
        if name not in known:
            raise ConfigError(f"--cell {name}: expected one of {', '.join(known)}; another one by --checkpoint")
    there = [folder for folder in FAMILIES if folder.is_dir()]
    chosen = [known[name] for name in names] or there
    missing = [str(folder) for folder in (chosen or FAMILIES) if not folder.is_dir()]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: no such folder; `stillframe train` makes it, or name another one")
    return chosen


def family_of(checkpoint: Path, config: Path | None, execute: int | None) -> Family:
    """A checkpoint with the settings of its deployment."""
    from stillframe_lab.ablation.families import Family

    deployed = load_config(knobs_of(checkpoint, config), {"checkpoint": checkpoint})
    return Family(checkpoint, deployed.reuse, execute or deployed.decoding.execute or None, deployed.checkpoint_config)


def remember(options: EvidenceOptions, names: Sequence[str]) -> None:
    """Evaluate every way to keep older frames, or what `names` name: time and play what is missing, then report."""
    require_extras("charts")
    from stillframe_client.sim.cues import VARIANTS
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.history.plan import EPISODES, HARD, PROOF_EPISODES, SEED, HistoryPlan
    from stillframe_lab.history.run import run_memory
    from stillframe_lab.progress import AblationBar

    variant, checkpoint = options.variant or HARD, local_folder(options.checkpoint or TINY_MEMORY)
    if variant not in VARIANTS:
        raise ConfigError(f"--variant {variant}: expected one of {', '.join(VARIANTS)}")
    knobs = load_config(knobs_of(checkpoint, options.config) or TINY_CONFIG, {"checkpoint": checkpoint})
    seed = SEED if options.seed is None else options.seed
    episodes, proof = (options.episodes or number for number in (EPISODES, PROOF_EPISODES))
    plan = HistoryPlan(checkpoint, knobs.reuse, knobs.history, episodes, seed, variant, proof)
    folders = Folders(options.run or Path("runs/memory"), options.out or Path("docs/memory"))
    with user_errors(), AblationBar() as bar:
        written = run_memory(plan, folders, options.workers, bar, names)
    typer.echo(f"written: {folders.out}/{', '.join(written)}")
