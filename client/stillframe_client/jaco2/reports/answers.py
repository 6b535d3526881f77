"""Reads what the policy answered in a run: frames.jsonl, which the bridge writes beside the tick log.

Knows no tick. Both logs go by one clock. A run without it (frame-check) has no answers; lines that are none are left
out: the tick log alone says what the arm was told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillframe_client.jaco2.reports.tick_file import TickFile

    Array = NDArray[np.float64]

FRAMES = "frames.jsonl"


@dataclass(frozen=True, eq=False)
class Answers:
    """All answers of a run. Times are seconds after the streamer's first tick."""

    time_s: Array  # [n] when each came
    latency_ms: Array  # [n] after its picture was taken
    played: NDArray[np.bool_]  # [n]
    reuse: Array  # [n] share of the frame that was not computed anew; nan: the daemon does not say
    events: Tuple[Tuple[float, str, str], ...]  # when, what, detail


def answers_of(log: TickFile) -> Answers:
    """The answers of a tick log's run; none where there is no file of them."""
    lines, start_s = _lines(log), log.ticks[0].time_s
    given = [line for line in lines if _is_answer(line)]
    return Answers(
        time_s=np.array([float(line["t"]) for line in given]) - start_s,
        latency_ms=np.array([float(line["ms"]) for line in given]),
        played=np.array([line.get("played") is True for line in given], dtype=bool),
        reuse=np.array([_number(line.get("reuse")) for line in given], dtype=float),
        events=tuple(
            (_number(line.get("t")) - start_s, str(line["event"]), str(line.get("detail", "")))
            for line in lines
            if "event" in line
        ),
    )


def answers_text(answers: Answers) -> str:
    """Lines of the summary: how many, how late, how many not played, and why there were none."""
    if not len(answers.time_s):
        return ""
    p50, p99 = np.percentile(answers.latency_ms, (50, 99))
    dropped = int((~answers.played).sum())
    text = f"answers: {len(answers.time_s)}, {p50:.0f} ms (p50), {p99:.0f} ms (p99) after their picture"
    text += f"; {dropped} not played" if dropped else ""
    reuse = answers.reuse[~np.isnan(answers.reuse)]
    text += f"; {100 * reuse.mean():.0f} % reused\n" if len(reuse) else "\n"
    return text + "".join(f"{what}: {count} x {detail}\n" for (what, detail), count in _troubles(answers).items())


def _troubles(answers: Answers) -> Dict[Tuple[str, str], int]:
    counts: Dict[Tuple[str, str], int] = {}
    for _, what, detail in answers.events:
        if what not in ("begin", "end"):
            counts[what, detail] = counts.get((what, detail), 0) + 1
    return counts


def _lines(log: TickFile) -> List[Mapping[str, Any]]:
    try:
        text = (log.file.parent / FRAMES).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: List[Mapping[str, Any]] = []
    for line in text.splitlines():
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            found.append(document)
    return found


def _is_answer(line: Mapping[str, Any]) -> bool:
    return all(type(line.get(name)) in (int, float) for name in ("t", "ms"))


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else float("nan")
