"""`stillframe inspect`. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.cli.app import app
from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import load_config
from stillframe.errors import CheckpointError

STDOUT = Path("-")


@app.command("inspect")
def inspect_command(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, its id on the hub, or a YAML with one.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was found here; '-': to standard output, and no tables.")
    ] = None,
) -> None:
    """Say what a checkpoint's folder holds, without reading its weights; fails if it would not be served."""
    from stillframe.tools.inspect.look import inspect
    from stillframe.tools.inspect.tables import tables

    deployed = load_config(checkpoint, {}) if checkpoint.suffix in {".yaml", ".yml"} else None
    folder = local_folder(deployed.checkpoint if deployed else checkpoint)
    found = inspect(folder, deployed.checkpoint_config if deployed else None)
    text = json.dumps(found.document, indent=2) + "\n"
    if json_file == STDOUT:
        typer.echo(text, nl=False)
    else:
        for table in tables(found):
            Console().print(table)
        if json_file is not None:
            write_text(json_file, text)
    if found.refusal is not None:
        raise CheckpointError(found.refusal)
