"""README.md's tables between their markers: states, limits, faults. Knows no measurement: results are handed in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fault_kit.matrix import LEFT, MATRIX, MODES

import stillframe_client.jaco2
from stillframe_client.jaco2 import ceilings
from stillframe_client.jaco2.core.watchdog import table_as_markdown
from stillframe_client.jaco2.settings import LimitSettings, WatchSettings

README = Path(stillframe_client.jaco2.__file__).with_name("README.md")
NONE = "–"  # noqa: RUF001 -- a dash
CEILINGS = {
    "linear_m_s": ceilings.LINEAR_M_S,
    "angular_rad_s": ceilings.ANGULAR_RAD_S,
    "linear_m_s2": ceilings.LINEAR_M_S2,
    "angular_rad_s2": ceilings.ANGULAR_RAD_S2,
    "low_m": ceilings.REACH_M,
    "high_m": ceilings.REACH_M,
    "step_m": ceilings.STEP_M,
    "step_rad": ceilings.STEP_RAD,
    "heartbeat_fault_s": ceilings.HEARTBEAT_AGE_S,
    "pose_fault_s": ceilings.POSE_AGE_S,
}


def block(name: str, text: str) -> str:
    """What stands between the markers of a table."""
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", text, re.DOTALL)
    assert found is not None, f"README.md has no markers for {name}"
    return found.group(1)


def write(results: Mapping[str, Any]) -> None:
    """Write all tables."""
    text = README.read_text(encoding="utf-8")
    for name, table in (("states", states()), ("limits", limits()), ("faults", faults(results))):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        text = text.replace(f"{begin}{block(name, text)}{end}", f"{begin}{table}{end}")
    README.write_text(text, encoding="utf-8")


def states() -> str:
    """The watchdog's table."""
    return f"{table_as_markdown()}\n"


def limits() -> str:
    """Each limit, its default, and what no configuration passes."""
    rows = [["setting", "what", "default", "may be", "ceiling in code"], ["---"] * 5]
    for section, kind in (("limits", LimitSettings), ("watch", WatchSettings)):
        for field in dataclasses.fields(kind):
            about, default = field.metadata, field.default
            shown = ", ".join(f"{each:g}" for each in default) if isinstance(default, tuple) else f"{default:g}"
            span = f"{about['low']:g} to {about['high']:g}"
            ceiling = f"{CEILINGS[field.name]:g}" if field.name in CEILINGS else NONE
            rows.append([f"`{section}.{field.name}`", about["description"], shown, span, ceiling])
    return _lines(rows)


def faults(results: Mapping[str, Any]) -> str:
    """The matrix: bounds, what was counted, what was measured."""
    head = [
        "fault",
        "what follows",
        "at rest, ticks",
        "counted",
        "stopped, ticks",
        "counted",
        "at rest, ms",
        "stopped, ms",
    ]
    rows = [head, ["---"] * len(head)]
    for fault in MATRIX:
        found = results["faults"].get(fault.name, {})
        ticks, ms = found.get("ticks") or {}, found.get("ms") or {}
        follows = f"{fault.follows}: nothing is sent" if fault.follows == LEFT else fault.follows
        rows.append(
            [fault.name, follows, _bound(fault.rest_ticks), _counted(ticks, 0), _bound(fault.stop_ticks),
             _counted(ticks, 1), _measured(ms.get("rest")), _measured(ms.get("stop"))]
        )  # fmt: skip
    low, high = results["loads"]
    machine = f"{results['machine']} with other work, load {low:.0f} to {high:.0f}"
    about = f"{results['runs']} runs each with real processes, in realtime: {machine}."
    return f"{_lines(rows)}\n{about}\n"


def bounds() -> list[list[str]]:
    """The columns of the matrix that need no result, by row."""
    return [[fault.name, fault.follows, _bound(fault.rest_ticks), _bound(fault.stop_ticks)] for fault in MATRIX]


def _bound(ticks: Mapping[str, int] | None) -> str:
    if not ticks or not any(ticks.values()):
        return NONE
    return " / ".join(str(ticks[mode]) for mode in MODES) if len({*ticks.values()}) > 1 else str(ticks[MODES[0]])


def _counted(ticks: Mapping[str, Any], index: int) -> str:
    each = [ticks[mode][index] for mode in MODES] if ticks else [None]
    return NONE if None in each else " / ".join(map(str, each))


def _measured(ms: list[float] | None) -> str:
    return NONE if ms is None else f"{ms[0]:.0f} / {ms[1]:.0f}"


def _lines(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
