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
    *,
    bridge: Annotated[
        bool, typer.Option("--bridge", help="Through the Jaco2 bridge, in real time: five; fails under 3.")
    ] = False,
) -> None:
    """Drive the simulated arm through ten instructions over HTTP; fails under 7 successes."""
    require_extras("sim", "charts")
    folder = out or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    if not (_through_bridge(config, folder) if bridge else _demo(config, folder)):
        raise typer.Exit(1)


def _demo(config: Path, folder: Path) -> bool:
    from stillframe_lab.demo.run import run_demo

    return run_demo(config, folder, Console())


def _through_bridge(config: Path, folder: Path) -> bool:
    from stillframe_lab.cli.bridge import show_bridge

    return show_bridge(config, folder)
