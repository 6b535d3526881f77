"""`stillframe study rtc`. Parses options; the lab's room rtc does the work, imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.options import Config, Episodes, Folder, Hz, JacoTask, Out, Run, Seed, Workers
from stillframe_lab.cli.shipped import knobs_of

DELAYS = "0,100,200,400"


def rtc_command(
    checkpoint: Folder,
    config: Config = None,
    task: JacoTask = "pick",
    delay_ms: Annotated[str, typer.Option(help="Of the answers, in whole control steps.")] = DELAYS,
    execute: Annotated[
        int | None,
        typer.Option(min=1, help="Actions of each chunk that are played before the next is asked for; default half."),
    ] = None,
    hz: Hz = 10,
    episodes: Episodes = 20,
    seed: Seed = 1000,
    out: Out = Path("docs/rtc"),
    run: Run = Path("runs/rtc"),
    workers: Workers = 2,
) -> None:
    """Compare the ways to join chunks, under delays.

    Under each delay the arm switches to the new chunk, goes over to it bit by bit, or is answered by real-time
    chunking, with a policy whose chunks can be held: pi0, pi0.5 or CogACT.
    """
    require_extras("sim")
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.evaluation.jobs import Folders
    from stillframe_lab.progress import AblationBar
    from stillframe_lab.rtc.cells import RtcPlan
    from stillframe_lab.rtc.report import run_rtc

    decoding = load_config(knobs_of(checkpoint, config), {"checkpoint": checkpoint}).decoding
    plan = RtcPlan(checkpoint, decoding, task, episodes, seed, hz, _delays(delay_ms), execute)
    with user_errors(), AblationBar() as bar:
        run_rtc(plan, Folders(run, out), workers, bar)
    typer.echo(f"written: {out}/README.md, results.json")


def _delays(text: str) -> tuple[int, ...]:
    """Milliseconds out of "0,100,200"."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--delay-ms is {text!r}; expected whole milliseconds, such as {DELAYS}") from None
