"""The command line. Each module has the commands of one purpose; the lab's are found by entry point."""

from __future__ import annotations

import sys

from stillframe.cli.early import exit_on_signals, open_standard_streams

open_standard_streams()
exit_on_signals(sys.argv)  # before the slow imports

from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402

from stillframe.cli import certify, checkpoint, measure, preflight, recordings, serve, top  # noqa: E402
from stillframe.cli.app import app  # noqa: E402
from stillframe.cli.plugins import add_commands  # noqa: E402
from stillframe.errors import StillframeError  # noqa: E402

__all__ = ["app", "certify", "checkpoint", "main", "measure", "preflight", "recordings", "serve", "top"]

add_commands(app)


def main() -> None:
    """Run a command. A StillframeError is printed in one line, with exit status 1."""
    try:
        app()
    except StillframeError as error:
        complaint = Text.assemble(("stillframe:", "red"), f" {error}")  # not markup: an error may hold brackets
        Console(stderr=True, soft_wrap=True, highlight=False).print(complaint)
        sys.exit(1)
