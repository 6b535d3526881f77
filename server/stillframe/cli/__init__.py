"""The command line: serve, demo, eval, calibrate, train. A module of this room has the commands of one purpose."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from stillframe.cli import daemon, measuring, training
from stillframe.cli.commands import app
from stillframe.errors import StillframeError

__all__ = ["app", "daemon", "main", "measuring", "training"]


def main() -> None:
    """Run; an error that is somebody's to mend is one line and exit status 1."""
    try:
        app()
    except StillframeError as error:
        complaint = Text.assemble(("stillframe:", "red"), f" {error}")  # not markup: an error may hold brackets
        Console(stderr=True, soft_wrap=True, highlight=False).print(complaint)
        sys.exit(1)
