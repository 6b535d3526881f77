from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageSequence
from rich.console import Console

from stillframe.bench.demo import FILMED, NEEDED, PLAN
from stillframe.bench.demo_report import DemoRecord, episode_table, row_of, summary, write_report
from stillframe.pictures import captioned
from stillframe_client.sim import COLOURS, TASKS
from stillframe_client.sim.rollout import Episode

if TYPE_CHECKING:
    from rich.console import RenderableType


@pytest.fixture
def record() -> DemoRecord:
    """Three episodes: done, wrong cube, timed out."""
    made = DemoRecord()
    for seed, (success, wrong) in enumerate([(True, False), (False, True), (False, False)]):
        act_ms = tuple(20.0 + step for step in range(5))
        made.episodes.append(Episode(seed, "pick up the red cube", success, wrong, len(act_ms), act_ms, wall_s=2.0))
        made.films.append([captioned(np.full((32, 32, 3), 40 * step, np.uint8), "red") for step in range(5)])
        made.stages_ms += [{"receive": 1.0, "prefill": 15.0, "total": 16.0 + step} for step in range(5)]
    return made


def printed(thing: RenderableType) -> str:
    """As a terminal without colours shows it."""
    screen = io.StringIO()
    Console(file=screen, width=100).print(thing)
    return screen.getvalue()


def test_the_demo_is_ten_instructions_of_several_kinds() -> None:
    """Two tasks, every colour with each of them or with the harder; the films are of two episodes."""
    kinds = Counter((choice["task"], choice["colour"]) for choice in PLAN)

    assert len(PLAN) == 10
    assert {task for task, _ in kinds} == {"reach", "pick"} <= set(TASKS)
    assert {colour for task, colour in kinds if task == "pick"} == set(COLOURS)
    assert len(set(FILMED)) == 2
    assert max(FILMED) < len(PLAN)
    assert NEEDED == 7


def test_an_episodes_row_says_how_it_ended(record: DemoRecord) -> None:
    """Number, instruction, result, steps, rate and latencies; a wrong cube is not a time-out."""
    table = episode_table()
    for number, episode in enumerate(record.episodes):
        table.add_row(*row_of(number, 3, episode))
    lines = [line.split() for line in printed(table).splitlines()[1:]]

    assert lines[0] == ["1/3", "pick", "up", "the", "red", "cube", "done", "5", "45", "22", "24"]
    assert [" ".join(line[6:8]) for line in lines[1:]] == ["wrong cube", "timed out"]


def test_the_summary_holds_the_figures(record: DemoRecord) -> None:
    """Success of all episodes, latency of all steps, and actions per second of asking time."""
    text = printed(summary(record))

    assert "1/3" in text
    assert "p50 22.0 ms, p99 24.0 ms" in text
    assert "45.5" in text  # 15 steps in 0.33 s


def test_the_report_leaves_three_files(record: DemoRecord, tmp_path: Path) -> None:
    """A JSON with every episode, an animation of the films given, a chart."""
    write_report(tmp_path, record, "jaco-tiny", record.films[:2], control_hz=10)
    document = json.loads((tmp_path / "report.json").read_text())
    with Image.open(tmp_path / "demo.gif") as animation, Image.open(tmp_path / "latency.png") as chart:
        assert len(list(ImageSequence.Iterator(animation))) == 10
        assert chart.format == "PNG"

    assert document["model"] == "jaco-tiny"
    assert document["success"] == "1/3"
    assert document["latency_ms"] == {"p50": 22.0, "p99": 24.0}
    assert document["actions_per_s"] == pytest.approx(15 / 0.33)
    assert [one["success"] for one in document["episodes"]] == [True, False, False]
    assert document["episodes"][0]["act_ms"] == [20.0, 21.0, 22.0, 23.0, 24.0]


def test_the_chart_adds_what_the_daemon_cannot_see(
    record: DemoRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The median step's stages and the wire together are the median latency; the daemon's total is no stage."""
    drawn: list[dict[str, float]] = []
    monkeypatch.setattr("stillframe.bench.demo_report.latency_chart", lambda _f, _ms, stages, _t: drawn.append(stages))
    write_report(tmp_path, record, "jaco-tiny", record.films[:1], control_hz=10)

    assert drawn == [{"receive": 1.0, "prefill": 15.0, "wire": 6.0}]
