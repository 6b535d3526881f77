"""Commands that other distributions bring by entry point: those of the laboratory, `stillframe-lab`, are known by name.

Knows entry points and the application; no command. Where one is missing it says what to install.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import typer

from stillframe.errors import ConfigError

GROUP = "stillframe.commands"
LAB_COMMANDS = ("demo", "eval", "bench", "train")
HOW_TO_INSTALL = "pip install stillframe-lab, or in a checkout: pip install -e lab"
ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_commands(app: typer.Typer) -> None:
    """Add every command of the group GROUP to `app`, and for the laboratory's that are missing one that says so."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in LAB_COMMANDS:
        if name not in found:
            _add_missing(app, name, f"'{name}' is a command of stillframe-lab, not installed here")
    for name, entry in found.items():
        _add(app, name, entry)


def _add(app: typer.Typer, name: str, entry: EntryPoint) -> None:
    try:
        command = entry.load()
    except ImportError as error:  # the daemon is served all the same
        _add_missing(app, name, f"'{name}' comes from {entry.value}, which cannot be imported ({error})")
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _add_missing(app: typer.Typer, name: str, why: str) -> None:
    """A command that takes any words, is not listed, and says what to install."""

    @app.command(name, hidden=True, context_settings=ANY_ARGUMENTS)
    def complain() -> None:
        raise ConfigError(f"{why}; run: {HOW_TO_INSTALL}")
