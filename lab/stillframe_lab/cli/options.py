"""Options that several commands have, declared once. A command says each one's default itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class PictureChoice(StrEnum):
    """How the simulator draws: process.Drawing, where it draws at all."""

    FULL = "full"
    FAST = "fast"


# What is played.
Task = Annotated[
    str,
    typer.Option(
        help="reach, pick, push, remember; pick-pot, place-cube, put-sausage or wipe-table of the kitchen scene."
    ),
]
JacoTask = Annotated[str, typer.Option("--task", help="reach, pick, push or remember.")]
Variant = Annotated[
    str | None, typer.Option(help="Of remember: simple (default), ordered, distractor or ordered-distractor.")
]
Hz = Annotated[int, typer.Option(help="Control steps per second: 5, 10 or 20.")]
Tasks = Annotated[str | None, typer.Option(help="Which of the suite's tasks, such as 0,1,2; default all.")]
Pictures = Annotated[
    PictureChoice | None,
    typer.Option(
        help="Of LIBERO: full as the benchmark draws them, or fast and coarser; default: what --checkpoint was trained "
        "on, else full."
    ),
]
Distractor = Annotated[bool, typer.Option("--distractor", help="Move something in the background.")]
Episodes = Annotated[int, typer.Option(min=1, help="Of each cell.")]
EpisodesOfTwo = Annotated[int, typer.Option("--episodes", min=2, help="Of each cell: half of reach, half of pick.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the first episode.")]

# By which policy.
Checkpoint = Annotated[Path, typer.Option(help="The policy, a folder or a hub id.")]
Folder = Annotated[Path, typer.Option("--checkpoint", exists=True, file_okay=False, help="The policy's folder.")]
Config = Annotated[
    Path | None, typer.Option(help="The policy's settings, a YAML; default those of a shipped --checkpoint.")
]
Execute = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Actions of each chunk that are played before the policy is asked again; default: what its deployment "
        "says, or all.",
    ),
]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Weights = Annotated[
    str | None, typer.Option(help="as-is, int8, int8-weight-only, int4-weight-only or fp8; default: --config's.")
]
Threads = Annotated[int, typer.Option(help="CPU threads of the policy, where it is --checkpoint's.")]

# Of a study.
Out = Annotated[Path, typer.Option(help="The folder that tables and charts go to.")]
Run = Annotated[Path, typer.Option(help="Where finished cells are kept; delete it after a change of code.")]
Workers = Annotated[int, typer.Option(min=1, max=2, help="Processes, one a core.")]
