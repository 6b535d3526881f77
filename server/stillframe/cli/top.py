"""`stillframe top`. Parses options; another room does the work, imported on use."""

from __future__ import annotations

from typing import Annotated

import typer

from stillframe.cli.app import app

LOCAL_DAEMON = "http://127.0.0.1:8000"


@app.command("top")
def top_command(
    url: Annotated[str, typer.Argument(help="A running daemon.")] = LOCAL_DAEMON,
    refresh: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    token: Annotated[str | None, typer.Option(envvar="STILLFRAME_TOKEN", help="Access token of the daemon.")] = None,
    ca_file: Annotated[str | None, typer.Option(help="Certificates to trust on https, PEM.")] = None,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Print how things stand and end; so it is where stdout is no terminal.")
    ] = False,
) -> None:
    """Show what a running daemon and its sessions do, until q or Ctrl-C."""
    from stillframe.tools.top.command import run_top

    run_top(url, token, ca_file, refresh, once=once)
