"""Asks a daemon for its contract, compares, sends the frame once, and prints the table.

Knows the client; the frame is stateless, so that no session begins and nothing is kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any, List, Sequence

from stillframe_client.client import PolicyClient
from stillframe_client.errors import PolicyError, Refused
from stillframe_client.preflight.contract import compare
from stillframe_client.preflight.findings import Finding, Level, refused, table
from stillframe_client.preflight.frame import RobotFrame, parse_camera, parse_state

PROGRAM = "python -m stillframe_client.preflight"


def main(arguments: Sequence[str], prog: str = PROGRAM) -> int:
    """Run a preflight and print it. Return 1 where the frame would be refused, or the daemon cannot be asked."""
    parser = _parser(prog)
    said = parser.parse_args(arguments)
    try:
        frame = _frame(said)
        client = PolicyClient(
            said.url,
            timeout_s=said.timeout_s,
            encoding=said.encoding,
            stateless=True,
            token=said.token,
            ca_file=said.ca_file,
        )
    except ValueError as error:
        parser.error(str(error))
    with client:
        findings = preflight(client, frame)
    sys.stdout.write(table(findings))
    return int(refused(findings))


def preflight(client: PolicyClient, frame: RobotFrame) -> List[Finding]:
    """Compare a frame with the contract of a stateless client's daemon, and send it."""
    try:
        info = client.info()
    except PolicyError as error:
        return [Finding(Level.WRONG, "daemon", str(error))]
    head = Finding(Level.OK, "daemon", f"serves {info.name} ({info.family})")
    return [head, *compare(frame, info), *_send(client, frame)]


def _send(client: PolicyClient, frame: RobotFrame) -> List[Finding]:
    """Return what the daemon said of the frame."""
    options: Any = {"state": frame.state, "unnorm_key": frame.unnorm_key}
    pictures: Any = frame.pictures
    if list(pictures) == [None]:
        pictures = pictures[None]
    began_s = time.monotonic()
    try:
        reply = client.act_with_report(pictures, frame.words, **options)
    except Refused as error:
        return [Finding(Level.WRONG, "frame", f"refused, {error.problem.code}: {error.problem.detail}")]
    except (PolicyError, ValueError) as error:
        return [Finding(Level.WRONG, "frame", str(error))]
    took = f"answered with {len(reply.actions)} x {reply.actions.shape[1]} numbers in {_ms(began_s)}"
    warnings = [Finding(Level.WARNING, "frame", words) for words in reply.warnings]
    return [Finding(Level.OK, "frame", f"{took} (the first may take longer)"), *warnings]


def _ms(began_s: float) -> str:
    return f"{(time.monotonic() - began_s) * 1e3:.0f} ms"


def _frame(said: argparse.Namespace) -> RobotFrame:
    """The frame that was typed. Raises ValueError."""
    cameras = [_typed("--camera", parse_camera, text) for text in said.camera]
    names = [name for name, _ in cameras]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice != "" or (None in names and len(names) > 1):
        raise ValueError("--camera: of several each has a name of its own, as in --camera front=480x640")
    state, measured = (None, False) if said.state is None else _typed("--state", parse_state, said.state)
    return RobotFrame(dict(cameras), state, measured, said.instruction, said.unnorm_key)


def _typed(option: str, parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Send a daemon one frame as your robot would, before anything moves, and say what would be "
        "missing, ignored, resized or refused. Exit status 1 where the frame would be refused.",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="the daemon, such as http://127.0.0.1:8000")
    add("--camera", action="append", default=[], metavar="NAME=HxW|NAME=FILE", help="a black picture, or a PNG or JPEG")
    add(
        "--state", metavar="N|NAMES|NUMBERS", help="8, or x,y,opening, or what the robot measures: --state=-0.1,0.2,..."
    )
    add("--instruction", metavar="TEXT", help="what the robot is to do")
    add("--unnorm-key", metavar="KEY", help="whose statistics scale the action")
    add("--encoding", choices=("raw", "png", "jpeg"), default="raw", help="how the pictures travel")
    add("--timeout", dest="timeout_s", type=float, default=60.0, metavar="S", help="of each of two calls")
    add("--token", default=os.environ.get("STILLFRAME_TOKEN"), help="also from STILLFRAME_TOKEN")
    add("--ca-file", metavar="PEM", help="certificates to trust on https")
    return parser
