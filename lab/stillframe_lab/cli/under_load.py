"""`stillframe eval --under-load`: how far answers drift where a daemon has no pauses, and what measuring it costs.

Knows options and the shipped configurations; other rooms do the work, imported on use.
"""

from __future__ import annotations

from pathlib import Path

import typer

from stillframe.errors import ConfigError
from stillframe.tools.machine import machine
from stillframe_lab.cli.evidence import EvidenceOptions, family_of
from stillframe_lab.cli.shipped import TINY

ROUNDS = 8
PAGE = Path("docs/drift.md")


def measure_under_load(options: EvidenceOptions, execute: int | None, pause_ms: float) -> None:
    """Play recorded episodes through an engine by each way to steer, in turn, and put the table into the page."""
    from stillframe_lab.ablation.cell import open_cpu_model
    from stillframe_lab.ablation.speed import record_episodes
    from stillframe_lab.ablation.under_load import LoadPlan, play_arms
    from stillframe_lab.ablation.under_load_report import figures, write_under_load
    from stillframe_lab.evaluation.actors import user_errors

    checkpoint = options.checkpoint or TINY
    if not checkpoint.is_dir():
        raise ConfigError(f"{checkpoint}: no such folder; `stillframe train` makes it, or name another by --checkpoint")
    family = family_of(checkpoint, options.config, execute)
    plan = LoadPlan(
        family.reuse, rounds=options.episodes or ROUNDS, pause_s=pause_ms / 1e3, execute=family.execute or 1
    )
    if plan.rounds <= plan.unsettled:
        raise ConfigError(f"--episodes {plan.rounds}: the first {plan.unsettled} of each robot are not counted; more")
    with user_errors():
        model = open_cpu_model(checkpoint, family.checkpoint_config)
        episodes, where = record_episodes(model, plan.episodes, plan.execute), machine()
        found = figures(plan, play_arms(plan, model, episodes), where)
    page, name = options.out or PAGE, checkpoint.name + ("-paused" if pause_ms else "")
    write_under_load(page, name, found)
    typer.echo(f"written: {page}, {page.stem}-{name}.json")
