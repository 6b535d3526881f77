"""`stillframe parity`: a checkpoint against goldens. Parses options; other rooms work, imported on use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.daemon.config import Device


def parity_command(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, or its id on the hub, of any family.")],
    golden: Annotated[Path, typer.Argument(help="What the reference returned on it: an .npz of arrays by key.")],
    device: Annotated[Device, typer.Option(help="Where to compute, in float32.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Compare a checkpoint with a reference's outputs, stage by stage.

    Fails with 1 if a stage is over its tolerance, with 2 if nothing could be compared.
    """
    from stillframe.cli.output import write_text
    from stillframe.daemon.checkpoint import local_folder
    from stillframe.daemon.serve import choose_device
    from stillframe_lab.parity.report import document, tables
    from stillframe_lab.parity.run import compare

    result = compare(local_folder(checkpoint), golden, choose_device(device))
    for table in tables(result):
        Console().print(table)
    if json_file is not None:
        write_text(json_file, json.dumps(document(result), indent=2) + "\n")
    if result.status:
        raise typer.Exit(result.status)
