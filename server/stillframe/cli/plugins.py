"""Commands of other distributions, found by entry point; the lab's are known by name, installed or not.

Knows entry points and the application; no command. A command that is missing says what to install.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import typer

from stillframe.errors import ConfigError

GROUP = "stillframe.commands"
LAB_COMMANDS = ("demo", "eval", "study", "bench", "parity", "train")
HOW_TO_INSTALL = "pip install stillframe-lab, or in a checkout: pip install -e lab"
ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_commands(app: typer.Typer) -> None:
    """Add the commands of entry point group GROUP to `app`, and a hint for each of the lab's that is not installed.

    A command that `app` has already is never replaced.
    """
    own = {command.name for command in app.registered_commands}
    found = {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in own}
    for name in LAB_COMMANDS:
        if name not in found:
            _add_hint(app, name, f"'{name}' is a command of stillframe-lab, not installed here; run: {HOW_TO_INSTALL}")
    for name, entry in found.items():
        _add(app, name, entry)


def _add(app: typer.Typer, name: str, entry: EntryPoint) -> None:
    try:
        command = entry.load()
    except Exception as error:  # noqa: BLE001 (a broken plugin must not keep `serve` from running)
        reinstall = f"; run: {HOW_TO_INSTALL}" if name in LAB_COMMANDS else ""
        _add_hint(app, name, f"'{name}' comes from {entry.value}, which cannot be imported ({error}){reinstall}")
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _add_hint(app: typer.Typer, name: str, hint: str) -> None:
    """A hidden command that takes any arguments and fails with `hint`."""

    @app.command(name, hidden=True, context_settings=ANY_ARGUMENTS)
    def fail() -> None:
        raise ConfigError(hint)
