"""The commands' common ground: the application that each module of this room adds its commands to.

Knows names; does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillframe import __version__

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

TINY_CONFIG = Path("configs/jaco-tiny.yaml")  # the policy that ships with the repository


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
