"""The command line: serve, demo, eval, calibrate, train. A module of this room has the commands of one purpose."""

from __future__ import annotations

import sys

from stillframe.cli.early import heed_signals, stand_on_three_files

stand_on_three_files()
heed_signals(sys.argv)  # before what takes long to import

from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from stillframe.cli import daemon, measuring, training  # noqa: E402
from stillframe.cli.commands import app  # noqa: E402
from stillframe.errors import StillframeError  # noqa: E402

__all__ = ["app", "daemon", "main", "measuring", "training"]


def main() -> None:
    """Run; an error that is somebody's to mend is one line and exit status 1."""
    try:
        app()
    except StillframeError as error:
        complaint = Text.assemble(("stillframe:", "red"), f" {error}")  # not markup: an error may hold brackets
        Console(stderr=True, soft_wrap=True, highlight=False).print(complaint)
        sys.exit(1)
