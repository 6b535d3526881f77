"""`stillframe serve` and `stillframe demo`. Parses; other rooms work, imported on use."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.cli.commands import TINY_CONFIG, app
from stillframe.config import load_config
from stillframe.extras import need


@app.command("serve")
def serve_command(
    config: Annotated[Path | None, typer.Argument(help="A YAML such as configs/jaco-tiny.yaml.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="A folder in the layout of openvla-7b.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    record: Annotated[Path | None, typer.Option(help="Keep sessions' answered frames in this folder.")] = None,
) -> None:
    """Serve a checkpoint over HTTP. Options win over the YAML."""
    from stillframe.logs import open_log
    from stillframe.serve import serve

    overrides = {
        "checkpoint": checkpoint,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "host": host,
        "port": port,
        "record": record,
    }
    serve(load_config(config, overrides), open_log())


@app.command("demo")
def demo_command(
    config: Annotated[Path, typer.Option(help="What the daemon serves.")] = TINY_CONFIG,
    out: Annotated[Path | None, typer.Option(help="Where the report goes; default runs/<time>.")] = None,
) -> None:
    """Drive the simulated arm through ten instructions over HTTP; fails under 7 successes."""
    need("sim", "charts")
    from stillframe.bench.demo import run_demo

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    if not run_demo(config, out or Path("runs") / stamp, Console()):
        raise typer.Exit(1)
