"""Reads a tick log back: its header, and what each tick went by and came to.

Knows the lines of streamer/tick_log.py, and no decision. A log that ends in the middle of a line (the machine or the
streamer was cut off) is read up to there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from stillframe_client.jaco2.config import ConfigError, parse
from stillframe_client.jaco2.core.messages import ORDERS, Inbox, Order
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose
from stillframe_client.jaco2.settings import BridgeSettings

VERSION = 1
TICKS = "ticks.jsonl"
STATES = {state.value for state in State}
DAMAGED = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # raised by a line that is no tick


class LogError(Exception):
    """A log that cannot be used; the text says what was expected."""


@dataclass(frozen=True)
class TickLine:
    """One tick: its inputs, and what was decided."""

    number: int  # of the line in the file, from 1
    time_s: float
    late_ms: float
    inbox: Inbox
    report: Optional[ArmState]  # a new one of the arm; None: none since the last tick
    error: str  # why the command before could not be sent
    state: str
    asked: Tuple[float, ...]  # [6]
    sent: Optional[Tuple[float, ...]]  # [7]; None: nothing
    calls: Tuple[str, ...]
    reasons: Tuple[str, ...]
    limits: Tuple[str, ...]
    notes: Tuple[str, ...]


@dataclass(frozen=True)
class TickFile:
    """A whole log."""

    file: Path
    settings: BridgeSettings
    arm: Mapping[str, Any]  # what the arm said of itself
    dry: bool
    ticks: Tuple[TickLine, ...]
    is_cut: bool  # its last line is not whole


def log_of(path: Path) -> Path:
    """The tick log that a path names: a file, or a run's folder. Raises LogError."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise LogError(f"{path} does not exist; expected a run's folder or its {TICKS}")
    if not (path / TICKS).is_file():
        raise LogError(f"{path} holds no {TICKS}; expected the folder of one run")
    return path / TICKS


def read_log(path: Path) -> TickFile:
    """Read a log, or that of a run's folder. Raises LogError."""
    file = log_of(path)
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LogError(f"{file} cannot be read: {error}") from error
    documents, is_cut = _documents(file, text)
    settings = _header(file, documents[0])
    ticks = tuple(_tick(file, number, document) for number, document in enumerate(documents[1:], 2))
    if not ticks:
        raise LogError(f"{file} holds no tick: the streamer ended before its first")
    return TickFile(file, settings, documents[0].get("arm") or {}, bool(documents[0].get("dry")), ticks, is_cut)


def _documents(file: Path, text: str) -> Tuple[List[Any], bool]:
    lines = text.split("\n")
    is_cut = bool(lines.pop())  # a whole log ends with a line's end
    if not lines:
        raise LogError(f"{file} is empty: the streamer wrote no line; its own words are in streamer.txt beside it")
    documents = []
    for number, line in enumerate(lines, 1):
        try:
            documents.append(json.loads(line))
        except ValueError as error:
            raise LogError(f"line {number} of {file} is damaged: {error}") from error
    return documents, is_cut


def _header(file: Path, header: Any) -> BridgeSettings:
    version = header.get("version") if isinstance(header, dict) else None
    if version is None or "settings" not in header:
        raise LogError(f"{file} is no tick log: its first line names no version; expected a run's {TICKS}")
    if version != VERSION:
        raise LogError(
            f"{file} is a log of version {version}; this program reads version {VERSION}: use the one that wrote it"
        )
    try:
        return parse(header["settings"], f"the settings in {file}")
    except ConfigError as error:
        raise LogError(str(error)) from error


def _tick(file: Path, number: int, line: Any) -> TickLine:
    try:
        return _read_tick(number, line)
    except DAMAGED as error:
        raise LogError(f"line {number} of {file} is no tick: {type(error).__name__}: {error}") from error


def _read_tick(number: int, line: Dict[str, Any]) -> TickLine:
    if line["state"] not in STATES:
        raise ValueError(f"its state is {line['state']!r}")
    sent = line.get("sent")
    return TickLine(
        number=number,
        time_s=float(line["t"]),
        late_ms=float(line["late_ms"]),
        inbox=_inbox(line),
        report=_report(line["arm"]) if "arm" in line else None,
        error=str(line.get("error", "")),
        state=line["state"],
        asked=_numbers(line["asked"], 6),
        sent=None if sent is None else _numbers(sent, 7),
        calls=tuple(line.get("calls", ())),
        reasons=tuple(line.get("why", ())),
        limits=tuple(line.get("limits", ())),
        notes=tuple(line.get("notes", ())),
    )


def _inbox(line: Dict[str, Any]) -> Inbox:
    return Inbox(
        messages=tuple(_message(message) for message in line.get("in", ())),
        heartbeat=bool(line.get("heard")),
        gone=bool(line.get("gone")),
        garbage=line.get("garbage", ""),
        stop=line.get("stop", ""),
    )


def _message(message: List[Any]) -> Union[Step, Order]:
    if message[0] != "step":
        return Order(ORDERS[ORDERS.index(message[0])])
    _, seq, delta, gripper, lasts_s, deadline_s = message
    return Step(int(seq), np.array(_numbers(delta, 6)), float(gripper), float(lasts_s), float(deadline_s))


def _report(said: Dict[str, Any]) -> ArmState:
    pose, joints = _numbers(said["pose"], 7), said.get("joints")
    return ArmState(
        seq=int(said["seq"]),
        time_s=float(said["t"]),
        pose=ToolPose(np.array(pose[:3]), np.array(pose[3:])),
        closure=said.get("closure"),
        joints_rad=None if joints is None else tuple(joints),
    )


def _numbers(values: Any, count: int) -> Tuple[float, ...]:
    if len(values) != count:
        raise ValueError(f"it holds {len(values)} numbers where {count} are expected")
    return tuple(map(float, values))
