"""`stillframe eval --suite S --ablation` and `--evidence`: every way to reuse or prune, in one suite and in all.

Parses what is asked; other rooms do the work, imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.evidence import EvidenceOptions, knobs_of
from stillframe_lab.cli.libero import PictureChoice, bench_of

EPISODES = 200
README, DOCS = Path("README.md"), Path("docs")  # of a checkout, in which the command runs


@dataclass(frozen=True)
class MethodsOptions:
    """What the command line says beside the options of every report; None: the default of each."""

    suite: str
    tasks: str | None
    execute: int | None
    pictures: PictureChoice | None
    distractor: bool
    arms: Sequence[str]  # none: all


def compare_methods(options: EvidenceOptions, asked: MethodsOptions) -> None:
    """Play and time what is missing, then write the report. Raises ConfigError for options that do not go together."""
    require_extras("charts")
    from stillframe_lab.ablation.cell import open_cpu_model
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.libero.suites import task_numbers
    from stillframe_lab.methods.cell import local_protocol, patches_of
    from stillframe_lab.methods.plan import MethodsPlan, method_arms
    from stillframe_lab.methods.run import run_methods
    from stillframe_lab.progress import AblationBar

    bench = bench_of(asked.suite, options.checkpoint, asked.pictures, distractor=asked.distractor)
    if options.checkpoint is None:
        raise ConfigError("--suite with --ablation: expected --checkpoint, a policy that was trained for the suite")
    checkpoint = local_folder(options.checkpoint)
    deployed = load_config(knobs_of(checkpoint, options.config), {"checkpoint": checkpoint})
    model = open_cpu_model(checkpoint, deployed.checkpoint_config)
    execute = asked.execute or deployed.decoding.execute or None
    local_protocol(model.info, bench, execute)
    plan = MethodsPlan(
        bench,
        task_numbers(asked.tasks, bench.tasks),
        options.episodes or EPISODES,
        options.seed or 0,
        method_arms(deployed.reuse, model, checkpoint, patches_of(model), masks=bench.masks),
        checkpoint,
        execute,
        deployed.checkpoint_config,
        tuple(asked.arms),
    )
    folders = Folders(options.run or Path("runs/methods"), options.out or Path("docs/methods"))
    with user_errors(), AblationBar() as bar:
        written = run_methods(plan, folders, options.workers, bar)
    typer.echo(f"written: {folders.out}/{', '.join(written)}")


def tabulate_evidence() -> None:
    """Write README's table of what was measured. Raises ConfigError where there is no checkout."""
    from stillframe_lab.methods.evidence import write_evidence

    try:
        write_evidence(README, DOCS)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--evidence: {error}; run it in a checkout of the repository") from error
    typer.echo(f"written: {README}")
