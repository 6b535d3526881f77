"""The command line: commands, their options, and which setting an option stands for.

Knows no setting's range and runs nothing. Without a command it is dry-run, in which nothing moves.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, NoReturn, Sequence, Tuple

DEFAULT = "dry-run"
# Option -> the setting that it is, its type, and what help says.
SHORTHANDS: Tuple[Tuple[str, str, Any, str], ...] = (
    ("--arm", "arm.kind", str, "how the arm is commanded: sim, mujoco, rosbridge, rospy, kinova_sdk"),
    ("--speed", "limits.speed", float, "share of all speeds, 0.05 to 1; the first run is at 0.25"),
    ("--instruction", "policy.instruction", str, "what the robot is to do"),
    ("--url", "policy.url", str, "the daemon's address"),
)
COMMANDS = {
    "dry-run": "ask the policy and log what the arm would be told; sends nothing (this is the default)",
    "run": "move the arm that --arm names; any key stops it",
    "check": "what is installed, the arm, the cameras, the daemon, and whether they fit; moves nothing",
    "frame-check": "move the arm a little along each axis, and compare",
    "home": "move to the arm's own home position; the fingers open",
    "stop": "tell the arm's driver to stop",
    "replay": "decide a log's ticks again and compare",
    "report": "charts and a summary of a log",
}
EPILOG = "Any key, Ctrl-C, or the end of this program stops the arm. Keep the power switch in reach: no program is one."


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Options, with `command` and `given`: dotted setting -> value. Ends the process for --help and for bad usage."""
    given = list(arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, DEFAULT)
    options = _parser().parse_args(given)
    options.given = _given(options)
    return options


def _given(options: argparse.Namespace) -> Dict[str, Any]:
    """What the command line says of settings; later and special ones win."""
    given = dict(options.set)
    for option, name, _, _ in SHORTHANDS:
        value = getattr(options, option[2:])
        if value is not None:
            given[name] = value
    return given


class _Parser(argparse.ArgumentParser):
    """Ends with 1 for what cannot be used: 2 is a run's fault."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.format_usage()}{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    settings = _settings_options()
    parser = _Parser(prog="stillframe-jaco2", description="Drives a Kinova Jaco2 from a policy daemon.", epilog=EPILOG)
    commands: Any = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made: Dict[str, argparse.ArgumentParser] = {
        name: commands.add_parser(name, parents=[settings], help=text, description=text)
        for name, text in COMMANDS.items()
    }
    _own_options(made)
    return parser


def _settings_options() -> argparse.ArgumentParser:
    """Options of all commands."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("settings")
    group.add_argument("--config", type=Path, metavar="FILE", help="TOML, YAML or JSON; without one: the defaults")
    for option, _, kind, text in SHORTHANDS:
        group.add_argument(option, type=kind, help=text)
    group.add_argument(
        "--set",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting, as in limits.floor_m=0.05",
    )
    group.add_argument("--print-config", action="store_true", help="print what is in effect, as TOML, and end")
    return parent


def _own_options(made: Dict[str, argparse.ArgumentParser]) -> None:
    for name in ("dry-run", "run"):
        made[name].add_argument("--seconds", type=_above_zero, help="end the episode after so long")
    for name in ("frame-check", "home"):
        made[name].add_argument("--yes", action="store_true", help="do not ask before the arm moves")
    made["check"].add_argument("--seconds", type=_above_zero, default=2.0, help="how long rates are measured")
    made["check"].add_argument(
        "--calls", type=_whole_above_zero, default=20, help="frames that the daemon is asked about"
    )
    made["frame-check"].add_argument("--shift", type=_shift, default=0.03, metavar="M", help="along each axis, metres")
    made["frame-check"].add_argument("--turn", type=_turn, default=0.15, metavar="RAD", help="about each axis")
    made["replay"].add_argument("log", type=Path, metavar="LOG", help="a run's tick log, or its folder")
    made["report"].add_argument("log", type=Path, metavar="LOG", help="a run's tick log, or its folder")
    made["report"].add_argument("--out", type=Path, help="folder for the charts; without it: report, beside the log")


def _number(low: float, high: float, unit: str) -> Callable[[str], float]:
    """A reader of numbers in a range."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not between {low:g} and {high:g} {unit}")
        return number

    return read


_above_zero = _number(0.1, 86400, "seconds")
_shift = _number(0.005, 0.05, "m")
_turn = _number(0.05, 0.4, "rad")


def _whole_above_zero(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1 and 9999")
    return int(text)


def _assignment(text: str) -> Tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; expected something like limits.floor_m=0.05")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value  # text
