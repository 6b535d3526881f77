"""`stillframe demo`: the simulated arm, driven by the daemon. Parses options; other rooms work, imported on use."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.shipped import BRIDGE_CONFIG, TINY_CONFIG, knobs_of


def demo_command(
    config: Annotated[Path | None, typer.Option(help=f"The daemon's configuration; default {TINY_CONFIG}.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The policy, in place of the configuration's; not with --bridge.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default runs/<time>.")] = None,
    url: Annotated[
        str | None, typer.Option(help="With --watch: of a daemon that runs already, such as http://127.0.0.1:8000.")
    ] = None,
    *,
    bridge: Annotated[
        bool, typer.Option("--bridge", help="Through the Jaco2 bridge, in real time: five; fails under 3.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="In real time until Ctrl-C, to look at in a browser; writes nothing.")
    ] = False,
) -> None:
    """Drive the simulated arm through ten instructions over HTTP; fails under 7 successes."""
    require_extras("sim", "charts")
    folder = out or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    if bridge and checkpoint is not None:
        raise ConfigError("--checkpoint with --bridge: expected --config, whose daemon serves it")
    if bridge and watch:
        raise ConfigError("--bridge with --watch: expected one of them; --watch plays without the bridge")
    if url is not None and not (watch and config is None and checkpoint is None):
        raise ConfigError("--url: expected --watch, and neither --config nor --checkpoint, which that daemon has")
    if watch:
        _watch(config, checkpoint, url)
    elif not (_through_bridge(config or TINY_CONFIG, folder) if bridge else _demo(config, checkpoint, folder)):
        raise typer.Exit(1)


def _demo(config: Path | None, checkpoint: Path | None, folder: Path) -> bool:
    from stillframe_lab.demo.run import run_demo

    return run_demo(_served(config, checkpoint), folder, Console())


def _watch(config: Path | None, checkpoint: Path | None, url: str | None) -> None:
    from stillframe_lab.demo.watch import watch_daemon, watch_demo

    if url is None:
        watch_demo(_served(config, checkpoint), Console())
    else:
        watch_daemon(url, Console())


def _served(config: Path | None, checkpoint: Path | None) -> list[str]:
    """Options of `stillframe serve`: a checkpoint has its shipped configuration, if there is one."""
    if checkpoint is None:
        return [str(config or TINY_CONFIG)]
    known = knobs_of(checkpoint, config)
    return [*([] if known is None else [str(known)]), "--checkpoint", str(checkpoint)]


def _through_bridge(config: Path, folder: Path) -> bool:
    from stillframe_lab.bridge.demo import run_demo

    return run_demo(config, BRIDGE_CONFIG, folder, "realtime", Console())
