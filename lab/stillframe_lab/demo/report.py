"""The demo's output: a table, a summary, report.json, an animation, a latency chart.

Knows episodes and times; asks no policy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table

from stillframe.tools.charts import latency_chart, write_gif
from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.chunk_actor import asked_ms
from stillframe_lab.evaluation.trace import Trace, percentiles

COLUMNS = ("", "instruction", "result", "steps", "Hz", "p50 ms", "p99 ms")
LEFT_ALIGNED = ("instruction", "result")


@dataclass
class DemoRecord:
    """Episodes, pictures and times recorded so far."""

    episodes: list[Episode] = field(default_factory=list)
    asked: list[list[bool]] = field(default_factory=list)  # of each episode's steps: whether its action was asked for
    films: list[list[Image.Image]] = field(default_factory=list)  # one per filmed episode
    stages_ms: list[Mapping[str, float]] = field(default_factory=list)  # per answer, as the daemon reports

    def add(self, episode: Episode, asked: list[bool], stages_ms: Sequence[Mapping[str, float]]) -> None:
        """One more episode."""
        self.episodes.append(episode)
        self.asked.append(asked)
        self.stages_ms += stages_ms

    @property
    def answers_ms(self) -> list[float]:
        """Of every answer, from picture to action, end to end."""
        return asked_ms(self.episodes, Trace(asked=[*chain.from_iterable(self.asked)]))

    @property
    def wins(self) -> int:
        """Successful episodes."""
        return sum(episode.success for episode in self.episodes)

    @property
    def figures(self) -> dict[str, Any]:
        """Success, and latency of answers and rate of actions as the client sees them."""
        asked_s = sum(sum(episode.act_ms) for episode in self.episodes) / 1e3
        return {
            "success": f"{self.wins}/{len(self.episodes)}",
            "latency_ms": percentiles(self.answers_ms),
            "actions_per_s": sum(episode.steps for episode in self.episodes) / asked_s,
        }


def episode_table() -> Table:
    """An empty table with a column for each figure of an episode."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in LEFT_ALIGNED else "right", no_wrap=True)
    return table


def row_of(number: int, of: int, episode: Episode, asked: list[bool]) -> tuple[str, ...]:
    """One episode's cells; `asked`: of each step, whether its action was asked for."""
    failure = "[red]wrong cube[/]" if episode.wrong_object else "[red]timed out[/]"
    result = "[green]done[/]" if episode.success else failure
    latency, mean_ms = percentiles(asked_ms([episode], Trace(asked=asked))), float(np.mean(episode.act_ms))
    figures = (f"{episode.steps}", f"{rate_hz(mean_ms):.0f}", f"{latency['p50']:.0f}", f"{latency['p99']:.0f}")
    return (f"{number + 1}/{of}", episode.instruction, result, *figures)


def rate_hz(duration_ms: float) -> float:
    """Rate of something that takes so long; infinite for a duration of 0."""
    return 1e3 / duration_ms if duration_ms else math.inf


def summary(record: DemoRecord) -> Table:
    """The figures of all ten, for the terminal."""
    figures = record.figures
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row("", "")
    table.add_row("[bold]success[/]", figures["success"])
    table.add_row("[bold]picture to action[/]", "p50 {p50:.1f} ms, p99 {p99:.1f} ms".format(**figures["latency_ms"]))
    table.add_row("[bold]actions per second[/]", f"{figures['actions_per_s']:.1f} (asked one after the other)")
    return table


def write_report(out: Path, record: DemoRecord, card: Mapping[str, Any], control_hz: int) -> None:
    """Write report.json, demo.gif and latency.png into `out`; `card`: the daemon's model card."""
    model = card["name"]
    served = {"model": model, "device": card["device"], "dtype": card["dtype"]}
    document = {**served, **record.figures, "episodes": [asdict(episode) for episode in record.episodes]}
    (out / "report.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    write_gif(out / "demo.gif", record.films, frame_ms=1000 // control_hz)
    every_ms = record.answers_ms
    names = [name for name in record.stages_ms[0] if name != "total"]
    stages = {name: float(np.median([stage[name] for stage in record.stages_ms])) for name in names}
    stages["wire"] = float(np.median(every_ms)) - sum(stages.values())  # the rest: what the daemon cannot measure
    latency_chart(out / "latency.png", every_ms, stages, f"{model}: {len(every_ms)} answers over HTTP on one machine")
