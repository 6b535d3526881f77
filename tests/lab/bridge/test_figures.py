"""Times out of the bridge's logs, and the report made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillframe_client.jaco2.bridge.frame_log import FRAMES
from stillframe_client.jaco2.bridge.streamer_process import TICKS
from stillframe_lab.bridge.cells import CELLS, EVAL, Played, Results
from stillframe_lab.bridge.figures import pooled, read_lines, run_figures
from stillframe_lab.bridge.film import frames, track
from stillframe_lab.bridge.report import write_report


def tick(time_s: float, state: str = "RUNNING", step: int | None = None, late_ms: float = 0.1) -> dict[str, Any]:
    """A tick's line; `step`: the number of one that came with it."""
    line: dict[str, Any] = {"t": time_s, "late_ms": late_ms, "state": state, "asked": [0.1, 0, 0, 0, 0, 0]}
    line["sent"] = [0.05, 0, 0, 0, 0, 0, 1.0]
    if step is not None:
        line["in"] = [["step", step, [0.0] * 6, 1.0, 0.1, time_s + 0.3]]
    return line


def answer(observed_s: float, now_s: float, *, played: bool = True) -> dict[str, Any]:
    """An answer's line."""
    return {"t": now_s, "observed": observed_s, "ms": 1e3 * (now_s - observed_s), "played": played}


def logged(folder: Path, ticks: list[dict[str, Any]], answers: list[dict[str, Any]]) -> Path:
    """A run's folder with these logs."""
    folder.mkdir(exist_ok=True)
    for name, lines in ((TICKS, [{"version": 1}, *ticks]), (FRAMES, answers)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_latency_is_from_the_frame_to_the_first_tick_with_its_step(tmp_path: Path) -> None:
    """An answer's step is the first one that reached the streamer after it; what was not played does not count."""
    ticks = [tick(10.06, step=1), tick(10.07), tick(10.17, step=2)]
    answers = [answer(10.0, 10.05), answer(10.02, 10.08, played=False), answer(10.1, 10.16)]

    figures = run_figures(logged(tmp_path / "run", ticks, answers))

    assert figures["frame_to_command_ms"] == pytest.approx([60.0, 70.0])
    assert figures["answer_ms"] == pytest.approx([50.0, 60.0])


def test_a_pause_between_episodes_is_no_gap_between_steps(tmp_path: Path) -> None:
    """The control rate is that of steps that follow each other."""
    ticks = [tick(1.0, step=1), tick(1.1, step=2), tick(9.0, step=3), tick(9.1, step=4)]

    figures = pooled([run_figures(logged(tmp_path / "run", ticks, []))])

    assert figures["control_hz"] == pytest.approx(10.0)


def test_lateness_counts_while_the_arm_is_driven(tmp_path: Path) -> None:
    """A tick that sends nothing may be late; holds are counted."""
    ticks = [tick(1.0, late_ms=0.2), tick(1.01, "DISARMED", late_ms=50.0), tick(1.02, "HOLD", late_ms=7.0)]

    figures = pooled([run_figures(logged(tmp_path / "run", ticks, []))])

    assert figures["late_ms"]["max"] == pytest.approx(0.2)
    assert figures["held_ticks"] == 1


def test_runs_without_values_pool_to_none() -> None:
    """A run that was broken off before its first answer has no latency."""
    empty = {"frame_to_command_ms": [], "answer_ms": [], "step_gap_ms": [], "late_ms": [], "running_s": 0.0}

    figures = pooled([{**empty, "held_ticks": 0}])

    assert figures["frame_to_command_ms"] == {"p50": None, "p99": None}
    assert figures["control_hz"] is None


def test_a_line_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    """A log whose writer was killed ends where it ends."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"t": 1}\n{"t": ')

    assert list(read_lines(file)) == [{"t": 1}]


def test_the_report_compares_with_eval(tmp_path: Path) -> None:
    """Targets are differences to the same seeds played without a bridge; both files are written, with the machine."""
    results = Results(tmp_path / "run")
    for seed in range(20):
        results.add(Played(EVAL, seed, "pick up the red cube", True, False, 25, 25, 2.0, "success"))  # noqa: FBT003
        done = seed > 1
        results.add(Played("lockstep", seed, "pick up the red cube", done, False, 35, 25, 3.0, "success"))  # noqa: FBT003
    run = logged(tmp_path / "logs", [tick(1.0, step=1), tick(1.1, step=2)], [answer(0.95, 0.99)])
    results.add_figures("lockstep", {"world": {"late_ms": {"beats": 3, "p99": 4.0}}, **run_figures(run)})

    document = write_report(results, CELLS, {"task": "pick", "seed": 0, "policy": "tiny"}, tmp_path / "out")

    (missed,) = document["targets"]
    assert (missed["measured"], missed["met"]) == ("10.0 points behind", False)
    assert document["cells"]["lockstep"]["failed_seeds"] == [0, 1]
    assert document["cells"]["lockstep"]["world_late_ms"]["p99"] == 4.0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == document
    page = (tmp_path / "out" / "README.md").read_text()
    assert document["made_with"]["cpu"] in page
    assert "18/20 = 90.0 %" in page


def test_a_film_is_the_episodes_pictures_beside_their_panels() -> None:
    """Pictures outside the episode are left out; each frame is the picture and a panel of its own time."""
    import numpy as np

    ticks = [tick(at / 100) for at in range(100)]
    ticks[0]["arm"] = {"pose": [0, -0.4, 0.2, 1, 0, 0, 0]}
    pictures = [(at / 10, np.full((224, 224, 3), at, np.uint8)) for at in range(12)]

    film = frames(pictures, track(ticks), "pick up the red cube", (0.2, 0.8))

    assert [frame.getpixel((10, 200)) for frame in film] == [(at, at, at) for at in range(2, 9)]
    assert film[0].size == (224 + 300, 224)
    assert film[0].crop((224, 0, 524, 224)).tobytes() != film[-1].crop((224, 0, 524, 224)).tobytes()
