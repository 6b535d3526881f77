"""The first run of a real arm is at a quarter of the speed: more takes the record of a run that ended well.

Knows no arm: it reads the summaries that runs leave in the record's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from stillframe_client.jaco2.settings import SIMULATED

if TYPE_CHECKING:
    from stillframe_client.jaco2.bridge.ends import Outcome
    from stillframe_client.jaco2.settings import BridgeSettings

FIRST_SPEED = 0.25
SUMMARY = "summary.json"


def speed_fault(settings: BridgeSettings) -> str:
    """Why this speed is refused; empty: it is not."""
    arm, speed = settings.arm, settings.limits.speed
    if speed <= FIRST_SPEED or arm.kind in SIMULATED or any(map(_ended_well, _summaries(settings))):
        return ""
    return (
        f"limits.speed is {speed:g}, and {settings.record.folder} holds no run of {arm.name!r} that ended well: "
        f"run once at {FIRST_SPEED:g} (--speed {FIRST_SPEED:g}), look at its report, then raise it"
    )


def write_summary(folder: Path, settings: BridgeSettings, outcome: Outcome, *, dry: bool) -> None:
    """Leave a run's summary."""
    summary = {
        "arm": settings.arm.name,
        "kind": settings.arm.kind,
        "speed": settings.limits.speed,
        "dry": dry,
        "reason": outcome.reason,
        "fault": outcome.fault,
        "answers": outcome.answers,
        "seconds": round(outcome.seconds, 3),
    }
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def _summaries(settings: BridgeSettings) -> Any:
    for file in sorted(Path(settings.record.folder).glob(f"*/{SUMMARY}")):
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(summary, dict) and summary.get("arm") == settings.arm.name:
            yield summary


def _ended_well(summary: Dict[str, Any]) -> bool:
    """Whether it moved the real arm, and was not stopped by a fault."""
    moved = summary.get("dry") is False and summary.get("kind") not in SIMULATED and summary.get("answers", 0) > 0
    return moved and summary.get("fault") is False
