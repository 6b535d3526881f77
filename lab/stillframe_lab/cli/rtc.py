"""`stillframe eval --rtc`: chunks that are held to the one before, under delays.

Knows options and the shipped configurations; other rooms do the work, imported on use.
"""

from __future__ import annotations

from pathlib import Path

import typer

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.evidence import EvidenceOptions, knobs_of

EPISODES, SEED = 20, 1000
DELAYS = "0,100,200,400"


def evaluate_rtc(options: EvidenceOptions, task: str, hz: int, execute: int | None, delays: str) -> None:
    """Play the same seeds with every delay, with held chunks and without, and write a report."""
    require_extras("sim")
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.rtc.cells import RtcPlan
    from stillframe_lab.rtc.report import run_rtc

    if options.checkpoint is None:
        raise ConfigError("--rtc: expected --checkpoint, a policy whose chunks can be held: pi0, pi0.5 or CogACT")
    config = load_config(knobs_of(options.checkpoint, options.config), {"checkpoint": options.checkpoint})
    seed = SEED if options.seed is None else options.seed
    plan = RtcPlan(
        options.checkpoint, config.decoding, task, options.episodes or EPISODES, seed, hz, _delays(delays), execute
    )
    folders = Folders(options.run or Path("runs/rtc"), options.out or Path("docs/rtc"))
    with user_errors(), AblationBar() as bar:
        run_rtc(plan, folders, options.workers, bar)
    typer.echo(f"written: {folders.out}/README.md, results.json")


def _delays(text: str) -> tuple[int, ...]:
    """Milliseconds out of "0,100,200"."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--delay-ms is {text!r}; expected whole milliseconds, such as {DELAYS}") from None
