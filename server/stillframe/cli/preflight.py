"""`stillframe preflight`: the client's own program, whose options it hands on as they are."""

from __future__ import annotations

import typer

from stillframe.cli.app import app
from stillframe.cli.plugins import ANY_ARGUMENTS


@app.command("preflight", context_settings=ANY_ARGUMENTS, add_help_option=False)
def preflight_command(context: typer.Context) -> None:
    """Send a daemon one frame as a robot would, and say what would be missing, ignored, resized or refused."""
    from stillframe_client.preflight.command import main

    raise typer.Exit(main(context.args, prog="stillframe preflight"))
