"""Decides a log's ticks again: with the log's settings they come to the same, with others it is told what changes.

Knows no arm. With other settings the arm still reports what it reported then: it is told how each tick would have been
decided there, not where the arm would have gone.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from stillframe_client.jaco2.core.controller import Controller

if TYPE_CHECKING:
    from stillframe_client.jaco2.core.controller import Tick
    from stillframe_client.jaco2.domain import ArmState
    from stillframe_client.jaco2.reports.tick_file import TickFile, TickLine
    from stillframe_client.jaco2.settings import BridgeSettings

EXACT = 1e-9  # metres, radians, a second: two machines round the last digits of a product otherwise


@dataclass
class Decided:
    """What a run's ticks came to."""

    ticks: Dict[str, int] = field(default_factory=Counter)  # state -> how many
    limited: Dict[str, int] = field(default_factory=Counter)  # limit -> ticks in which it changed what was asked
    holds: Dict[str, int] = field(default_factory=Counter)  # reason -> ticks on hold for it
    faults: List[str] = field(default_factory=list)
    fastest_m_s: float = 0.0
    fastest_rad_s: float = 0.0

    def add(self, line: TickLine) -> None:
        """Count a tick."""
        self.ticks[line.state] += 1
        for limit in set(line.limits):
            self.limited[limit] += 1
        for reason in line.reasons if line.state == "HOLD" else ():
            self.holds[reason] += 1
        if line.state == "FAULT" and line.reasons and (not self.faults or self.faults[-1] != "; ".join(line.reasons)):
            self.faults.append("; ".join(line.reasons))
        if line.sent is not None:
            self.fastest_m_s = max(self.fastest_m_s, _length(line.sent[:3]))
            self.fastest_rad_s = max(self.fastest_rad_s, _length(line.sent[3:6]))


def decide_again(log: TickFile, settings: Optional[BridgeSettings] = None) -> Iterator[Tuple[TickLine, Tick]]:
    """Each tick of the log, and how it is decided now: with the log's settings, or with others."""
    controller = Controller(settings or log.settings, dry=log.dry)
    newest: Optional[ArmState] = None
    for line in log.ticks:
        newest = line.report or newest
        yield line, controller.tick(line.inbox, newest, line.time_s, line.error)


def decided(lines: Iterable[TickLine]) -> Decided:
    """What ticks came to."""
    total = Decided()
    for line in lines:
        total.add(line)
    return total


def redecided(line: TickLine, tick: Tick) -> TickLine:
    """The log's line with what is decided now in place of what was."""
    return replace(
        line, state=tick.state.value, sent=sent_by(tick), reasons=tick.reasons, limits=tick.limits, notes=tick.notes
    )


def difference(line: TickLine, tick: Tick) -> str:
    """What the tick came to otherwise than the log says; empty: nothing."""
    if tick.state.value != line.state:
        return f"the state is {tick.state.value}; the log says {line.state}"
    calls = tuple(call.value for call in tick.calls)
    if calls != line.calls:
        return f"the arm is told to {_words(calls)}; the log says {_words(line.calls)}"
    sent = sent_by(tick)
    if (sent is None) != (line.sent is None):
        return f"{_shown(sent)} is sent; the log says {_shown(line.sent)}"
    if sent is None or line.sent is None:
        return ""
    far = max(abs(a - b) for a, b in zip(sent, line.sent))  # noqa: B905 -- both have seven
    return "" if far <= EXACT else f"{_shown(sent)} is sent; the log says {_shown(line.sent)}"


def first_difference(log: TickFile) -> str:
    """Where and how deciding again first comes to something else; empty: nowhere."""
    start_s = log.ticks[0].time_s
    for line, tick in decide_again(log):
        found = difference(line, tick)
        if found:
            return f"line {line.number}, {line.time_s - start_s:.2f} s after the start: {found}"
    return ""


def sent_by(tick: Tick) -> Optional[Tuple[float, ...]]:
    """A tick's command as the log writes it: [7]."""
    command = tick.command
    if command is None:
        return None
    return (*command.linear_m_s.tolist(), *command.angular_rad_s.tolist(), command.closure)


def _length(vector: Sequence[float]) -> float:
    return math.sqrt(sum(part * part for part in vector))


def _words(calls: Tuple[str, ...]) -> str:
    return " and ".join(calls) or "nothing"


def _shown(sent: Optional[Tuple[float, ...]]) -> str:
    return "nothing" if sent is None else "[" + ", ".join(f"{part:.6g}" for part in sent) + "]"
