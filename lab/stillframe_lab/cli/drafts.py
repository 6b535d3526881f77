"""`stillframe eval --drafts`: exact and strict drafts, side by side in closed loop.

Knows options and the shipped configurations; other rooms do the work, imported on use.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import load_config
from stillframe.domain import ReuseMode
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.evidence import EvidenceOptions, knobs_of
from stillframe_lab.cli.shipped import TINY

EPISODES, SEED = 20, 1000


def compare_drafts(
    options: EvidenceOptions, task: str, hz: int, reuse: ReuseMode | None, loading: dict[str, Any]
) -> None:
    """Play by exact drafts, compare each frame with strict ones, and write a report. Reuse is off by default.

    `loading`: device, dtype and threads; dtype auto is bfloat16, in which rounding shows.
    """
    require_extras("sim")
    from stillframe.daemon.serve import open_model
    from stillframe_lab.drafts.report import run_drafts
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.evaluate import Evaluation, with_defaults
    from stillframe_lab.progress import AblationBar

    checkpoint, out = options.checkpoint or TINY, options.out or Path("docs/drafts")
    dtype = "bfloat16" if loading["dtype"] == "auto" else loading["dtype"]
    config = with_local_checkpoint(
        load_config(knobs_of(checkpoint, options.config), {"checkpoint": checkpoint, **loading, "dtype": dtype})
    )
    seed = SEED if options.seed is None else options.seed
    plan = with_defaults(Evaluation(task, options.episodes or EPISODES, seed, hz, variant=options.variant))
    with user_errors(), AblationBar() as bar:
        run_drafts(plan, partial(open_model, config), replace(config.reuse, mode=reuse or "off"), out, bar)
    typer.echo(f"written: {out}/README.md, results.json")
