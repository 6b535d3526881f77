"""The commands' common ground: the application, and what ships in the repository, by its folders.

Knows names; does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe import __version__

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
train_app = typer.Typer(no_args_is_help=True, help="Train the policy that ships with stillframe.")
app.add_typer(train_app, name="train")

TINY, TINY_WRIST = Path("checkpoints/jaco-tiny"), Path("checkpoints/jaco-tiny-wrist")
TINY_MEMORY = Path("checkpoints/jaco-tiny-memory")
TINY_CONFIG, TINY_WRIST_CONFIG = Path("configs/jaco-tiny.yaml"), Path("configs/jaco-tiny-wrist.yaml")
TINY_MEMORY_CONFIG = Path("configs/jaco-tiny-memory.yaml")
SHIPPED = {TINY: TINY_CONFIG, TINY_WRIST: TINY_WRIST_CONFIG, TINY_MEMORY: TINY_MEMORY_CONFIG}


def _show_version(asked: bool) -> None:  # noqa: FBT001 (typer's callback)
    if asked:
        typer.echo(f"stillframe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *, version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False
) -> None:
    """A robot-policy serving daemon that remembers each robot between frames."""
    del version  # its callback has spoken
