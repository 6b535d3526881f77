"""The application that each module of this room adds its commands to, and their order in --help.

Knows names; does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stillframe import __version__

TINY_CONFIG = Path("configs/jaco-tiny.yaml")  # the policy that ships with the repository
ORDER = (
    "serve",
    "healthcheck",
    "token",
    "top",
    "preflight",
    "inspect",
    "calibrate",
    "replay",
    "certify",
    "export",
    "loadtest",
    "demo",
    "eval",
    "study",
    "bench",
    "parity",
    "train",
)


class _OrderedGroup(TyperGroup):
    """Lists commands as ORDER has them, whatever order they were registered in; unknown ones last, by name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (click's signature)
        """Names of all commands."""
        return [*(name for name in ORDER if name in self.commands), *sorted(self.commands.keys() - {*ORDER})]


app = typer.Typer(
    cls=_OrderedGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 (typer's callback)
    if asked:
        typer.echo(f"stillframe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *, version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False
) -> None:
    """A robot-policy serving daemon that remembers each robot between frames."""
    del version  # handled by its callback
