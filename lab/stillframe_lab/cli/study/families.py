"""`stillframe study families`. Parses options; the lab's room ablation does the work, imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import Config, EpisodesOfTwo, Execute, Out, Run, Seed, Workers
from stillframe_lab.cli.shipped import FAMILIES, knobs_of

if TYPE_CHECKING:
    from stillframe_lab.ablation.families import Family


def families_command(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A policy's folder; more than once for several. Default: the shipped one of each family.",
        ),
    ] = None,
    config: Config = None,
    execute: Execute = None,
    episodes: EpisodesOfTwo = 100,
    seed: Seed = 1000,
    out: Out = Path("docs/ablation/families"),
    run: Run = Path("runs/families"),
    workers: Workers = 2,
) -> None:
    """Compare every reuse mode with a policy of each family.

    Each plays reach and pick with a perfect picture and with sensor noise, and is timed. What --out has of other
    policies stays.
    """
    require_extras("sim", "charts")
    from stillframe_lab.ablation.families import FamiliesPlan
    from stillframe_lab.ablation.families_run import run_families
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar

    chosen = checkpoint or [folder for folder in FAMILIES if folder.is_dir()]
    if not chosen:
        raise ConfigError(f"{', '.join(map(str, FAMILIES))}: none of them is here; name a policy by --checkpoint")
    families = tuple(family_of(folder, config, execute) for folder in chosen)
    with user_errors(), AblationBar() as bar:
        written = run_families(FamiliesPlan(families, episodes, seed), Folders(run, out), workers, bar)
    typer.echo(f"written: {out}/{', '.join(written)}")


def family_of(checkpoint: Path, config: Path | None, execute: int | None) -> Family:
    """A checkpoint with the settings of its deployment."""
    from stillframe_lab.ablation.families import Family

    deployed = load_config(knobs_of(checkpoint, config), {"checkpoint": checkpoint})
    return Family(checkpoint, deployed.reuse, execute or deployed.decoding.execute or None, deployed.checkpoint_config)
