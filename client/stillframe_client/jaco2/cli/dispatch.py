"""Reads the settings and runs a command; what a command needs is imported with it.

Knows no command's work.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Callable, Dict

from stillframe_client.jaco2.cli.config_text import as_toml
from stillframe_client.jaco2.cli.refusal import Refusal
from stillframe_client.jaco2.config import ConfigError, load

if TYPE_CHECKING:
    from argparse import Namespace

    from stillframe_client.jaco2.settings import BridgeSettings

    Command = Callable[[BridgeSettings, Namespace], int]


def dispatch(options: Namespace) -> int:
    """Run the command; return its exit status. Raises Refusal."""
    try:
        settings = load(options.config, options.given)
    except ConfigError as error:
        raise Refusal(str(error)) from error
    if options.print_config:
        sys.stdout.write(as_toml(settings))
        return 0
    if options.command not in WITH_ARM:
        return COMMANDS[options.command](settings, options)
    return _with_world(settings, options)


def _with_world(settings: BridgeSettings, options: Namespace) -> int:
    """Run it with a simulated world of its own, where the settings name one and no socket of it."""
    from stillframe_client.jaco2.world.launch import world_for
    from stillframe_client.jaco2.world.wire import WorldError

    try:
        with world_for(settings) as there:
            return COMMANDS[options.command](there, options)
    except WorldError as error:
        raise Refusal(str(error)) from error


def _dry_run(settings: BridgeSettings, options: Namespace) -> int:
    from stillframe_client.jaco2.bridge.run import run

    return run(settings, dry=True, seconds=options.seconds)


def _real_run(settings: BridgeSettings, options: Namespace) -> int:
    if "arm.kind" not in options.given:
        raise Refusal(f"run moves an arm: name it, as in --arm {settings.arm.kind}; without run, nothing moves")
    from stillframe_client.jaco2.bridge.run import run

    return run(settings, dry=False, seconds=options.seconds)


def _check(settings: BridgeSettings, options: Namespace) -> int:
    from stillframe_client.jaco2.cli.check import check

    return check(settings, seconds=options.seconds, calls=options.calls)


def _frame_check(settings: BridgeSettings, options: Namespace) -> int:
    from stillframe_client.jaco2.cli.frame_check import frame_check

    return frame_check(settings, shift_m=options.shift, turn_rad=options.turn, ask=not options.yes)


def _home(settings: BridgeSettings, options: Namespace) -> int:
    from stillframe_client.jaco2.cli.direct import home

    return home(settings, ask=not options.yes)


def _stop(settings: BridgeSettings, options: Namespace) -> int:  # noqa: ARG001 -- all commands are alike
    from stillframe_client.jaco2.cli.direct import stop

    return stop(settings)


def _replay(settings: BridgeSettings, options: Namespace) -> int:
    from stillframe_client.jaco2.cli.logs import replay

    return replay(options.log, None if options.config is None else settings, options.given)


def _report(settings: BridgeSettings, options: Namespace) -> int:  # noqa: ARG001 -- a log holds its own
    from stillframe_client.jaco2.cli.logs import report

    return report(options.log, options.out)


COMMANDS: Dict[str, Command] = {
    "dry-run": _dry_run,
    "run": _real_run,
    "check": _check,
    "frame-check": _frame_check,
    "home": _home,
    "stop": _stop,
    "replay": _replay,
    "report": _report,
}
WITH_ARM = ("dry-run", "run", "check", "frame-check", "home")
