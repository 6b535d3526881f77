"""`stillframe demo`: the simulated arm, driven by the daemon. Parses options; other rooms work, imported on use."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.tools.extras import require_extras
from stillframe_lab.cli.shipped import TINY_CONFIG


def demo_command(
    config: Annotated[Path, typer.Option(help="The daemon's configuration.")] = TINY_CONFIG,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default runs/<time>.")] = None,
) -> None:
    """Drive the simulated arm through ten instructions over HTTP; fails under 7 successes."""
    require_extras("sim", "charts")
    from stillframe_lab.demo.run import run_demo

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    if not run_demo(config, out or Path("runs") / stamp, Console()):
        raise typer.Exit(1)
