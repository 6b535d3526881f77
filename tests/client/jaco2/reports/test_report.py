from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.core.messages import Inbox, Order
from stillframe_client.jaco2.domain import Step
from stillframe_client.jaco2.reports.answers import answers_of
from stillframe_client.jaco2.reports.series import reasons, series_of, states
from stillframe_client.jaco2.reports.summary import summary
from stillframe_client.jaco2.reports.tick_file import read_log

CHARTS = ("velocity", "position", "states", "lateness")


def straight(tick: int, now_s: float) -> Inbox:
    """Armed, and 10 mm along x in a second, in one step."""
    if tick == 0:
        return Inbox((Order("arm"),), heartbeat=True)
    if tick == 1:
        return Inbox((Step(1, np.array([0.01, 0, 0, 0, 0, 0.1]), 1.0, 1.0, now_s + 1.2),), heartbeat=True)
    return Inbox(heartbeat=True)


def test_a_run_is_summed_up(new_log: Callable[..., Path]) -> None:
    """Each figure as counted by hand: the usual run is held once, stopped in the end, late twice, limited in speed."""
    lines = summary(read_log(new_log())).splitlines()
    rows = {line.split("  ")[0]: line.split()[-3:] for line in lines}

    assert lines[0] == "sim test, 6.6 s, 660 ticks, at speed 0.25"
    assert rows["DISARMED"] == ["0.8", "%", "0.05"] or rows["DISARMED"][-2:] == ["0.05", "s"]
    assert rows["HOLD"][-2:] == ["0.25", "s"]
    assert rows["FAULT"][-2:] == ["0.60", "s"]
    assert rows["the bridge is silent"] == ["1", "0.25", "s"]
    assert "fault: stopped by the operator" in lines
    assert rows["speed"][-1] == "%"
    assert "fastest sent: 0.025 m/s, 0.125 rad/s" in lines
    assert "lateness of a tick: p50 0.30 ms, p99 0.60 ms, max 12.40 ms; 2 over 10 ms" in lines
    assert "rate: 100.00 Hz" in lines
    assert any(line.startswith("travel: told ") and line.endswith("(83 %); a report each 100 ms") for line in lines)


def test_a_run_without_trouble_says_so(new_log: Callable[..., Path]) -> None:
    """No hold, no fault, no limit; and of a dry run, that nothing was sent."""
    text = summary(read_log(new_log(100, straight, dry=True)))

    assert all(line in text for line in ("no hold", "no fault", "no limit was hit", "dry run: nothing was sent"))
    assert "would have been told" in text


def test_what_an_arm_is_moved_by_others_is_no_travel(tmp_path: Path, write_log: Callable[..., Path]) -> None:
    """It is disarmed, and then put back by hand: told and measured are as without that."""

    def ended(tick: int, now_s: float) -> Inbox:
        return Inbox((Order("disarm"),), heartbeat=True) if tick == 100 else straight(tick, now_s)

    said = []
    for name, moved_at in (("left", -1), ("put-back", 180)):
        (tmp_path / name).mkdir()
        text = summary(read_log(write_log(tmp_path / name, 220, ended, moved_at=moved_at)))
        said += [line for line in text.splitlines() if line.startswith("travel: told 0.0")]

    assert len(said) == 2
    assert said[0] == said[1]


def test_what_was_asked_sent_and_measured_add_up(new_log: Callable[..., Path]) -> None:
    """Open loop: the step's 10 mm and 0.1 rad are asked and sent, and 17 % less is measured."""
    series = series_of(read_log(new_log(120, straight, motion__feedback_1_s=0.0)))

    assert np.allclose(series.steps[-1], [0.01, 0, 0, 0, 0, 0.1], atol=2e-4)
    assert np.allclose(series.told[-1], [0.01, 0, 0, 0, 0, 0.1], atol=1e-3)
    assert np.allclose(series.moved[-1], 0.83 * series.told[-1], atol=1e-4)
    assert np.nanmax(series.sent[:, 0]) == pytest.approx(0.01)
    assert np.nanmax(series.measured[:, 0]) == pytest.approx(0.0083, abs=1e-4)
    # The tool looks down: what turns about the base's +z turns about the tool's -z.
    assert np.nanmin(series.measured[:, 5]) == pytest.approx(-0.083, abs=1e-3)
    assert np.nanmin(series.sent[:, 5]) == pytest.approx(-0.1, abs=1e-3)


def test_states_and_reasons_are_stretches(new_log: Callable[..., Path]) -> None:
    """Each state once as long as it lasts; a reason's stretch ends where it is not given any more."""
    log = read_log(new_log())

    assert [state for _, _, state in states(log)] == ["DISARMED", "READY", "RUNNING", "HOLD", "RUNNING", "FAULT"]
    assert [(round(begin, 2), round(end, 2)) for begin, end, _ in reasons(log, "HOLD")["the bridge is silent"]] == [
        (3.35, 3.6)
    ]
    assert list(reasons(log, "FAULT")) == ["stopped by the operator"]
    assert reasons(log, "READY").keys() <= {"no fresh step"}


def test_a_reason_that_comes_again_is_another_stretch(new_log: Callable[..., Path]) -> None:
    """Silent twice: two holds in the summary, and two bars in the chart."""

    def twice(tick: int, now_s: float) -> Inbox:
        if tick == 5:
            return Inbox((Order("arm"),), heartbeat=True)
        if 100 <= tick < 140 or 200 <= tick < 240:
            return Inbox()
        if tick % 10:
            return Inbox(heartbeat=True)
        return Inbox((Step(tick, np.array([0.001, 0, 0, 0, 0, 0]), 1.0, 0.1, now_s + 0.25),), heartbeat=True)

    log = read_log(new_log(300, twice))

    assert len(reasons(log, "HOLD")["the bridge is silent"]) == 2
    (row,) = (line for line in summary(log).splitlines() if line.startswith("the bridge is silent"))
    assert row.split()[-3] == "2"


def silent(tick: int, now_s: float) -> Inbox:  # noqa: ARG001 -- as all are called
    """Nothing at all."""
    return Inbox()


def odd(tick: int, now_s: float) -> Inbox:
    """Armed, and then a step that is none."""
    if tick == 1:
        return Inbox((Step(1, np.array([np.nan, np.inf, 0, 0, 0, 1e9]), 1.0, 0.0, now_s + 1),), heartbeat=True)
    return straight(0, now_s) if tick == 0 else Inbox(heartbeat=True)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("ticks", "inboxes"), [(660, None), (1, silent), (5, odd)], ids=["usual", "one tick", "odd step"]
)
def test_charts_are_drawn(
    ticks: int, inboxes: Any, new_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Four PNGs and the summary beside the log, of long runs, of a single tick, and of steps with odd numbers."""
    folder = new_log(ticks, inboxes) if inboxes else new_log(ticks, limits__low_m=[-0.01, -0.7, 0.28])

    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    out = folder / "report"
    assert {file.name for file in out.iterdir()} == {"summary.txt", *(f"{name}.png" for name in CHARTS)}
    assert printed.startswith((out / "summary.txt").read_text())
    assert printed.splitlines()[-4:] == [str(out / f"{name}.png") for name in CHARTS]
    for name in CHARTS:
        with Image.open(out / f"{name}.png") as chart:
            assert chart.size[0] > 1000
            assert len(chart.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_poses_that_are_none_are_left_out(new_log: Callable[..., Path]) -> None:
    """A report of NaN is why the streamer stopped: it is in no chart, and breaks none."""
    folder = new_log(100, straight)
    file = folder / "ticks.jsonl"
    text = file.read_text()
    pose = text.split('"pose":')[3].split("]")[0] + "]"
    file.write_text(text.replace(pose, "[NaN,0,0,0,0,0,0]", 1))

    series = series_of(read_log(folder))

    assert np.isfinite(series.moved).all()
    assert np.isfinite(series.told).all()


@pytest.mark.usefixtures("blank_charts")
def test_charts_go_where_they_are_told(new_log: Callable[..., Path], tmp_path: Path) -> None:
    """--out names a folder, which is made."""
    assert main(["report", str(new_log(30)), "--out", str(tmp_path / "a" / "b")]) == 0
    assert (tmp_path / "a" / "b" / "states.png").is_file()


def test_a_folder_that_cannot_be_made_is_told(
    new_log: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in its place."""
    (tmp_path / "file").write_text("")

    assert main(["report", str(new_log(30)), "--out", str(tmp_path / "file")]) == 1
    assert "give another folder with --out" in capsys.readouterr().err


def test_without_matplotlib_there_is_the_summary(
    new_log: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How to install it is said; the text is printed all the same."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("charts", "motion_charts"):
        monkeypatch.delitem(sys.modules, f"stillframe_client.jaco2.reports.{name}", raising=False)

    assert main(["report", str(new_log(30))]) == 1
    said = capsys.readouterr()
    assert "rate: 100.00 Hz" in said.out
    assert "pip install 'stillframe-client[jaco2-report]'" in said.err


def answer(seconds: float, ms: float, *, played: bool, reuse: float | None) -> str:
    """A line of frames.jsonl; the usual run begins at 1000.01 s of its clock."""
    return json.dumps({"t": 1000.01 + seconds, "ms": ms, "played": played, "reuse": reuse, "actions": [[0] * 7]})


@pytest.mark.usefixtures("blank_charts")
def test_answers_are_in_the_report(new_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """From frames.jsonl beside the log: how many, how late, how many not played, why there were none; and a chart."""
    folder = new_log()
    lines = [answer(0.1 * number, 40.0, played=True, reuse=0.5) for number in range(50)]
    lines += [answer(5.5, 700.0, played=False, reuse=None), '{"t":1002,"event":"begin","detail":"go left"}']
    lines += ['{"t":1003,"event":"no answer","detail":"503"}'] * 2 + ["", "[1]", '{"t":"odd","ms":1}', '{"t": 100']
    (folder / "frames.jsonl").write_text("\n".join(lines))

    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "answers: 51, 40 ms (p50), 370 ms (p99) after their picture; 1 not played; 50 % reused\n" in printed
    assert "no answer: 2 x 503\n" in printed
    assert "go left" not in printed
    answers = answers_of(read_log(folder))
    assert answers.time_s[:2] == pytest.approx([0.0, 0.1])
    assert answers.played.sum() == 50
    with Image.open(folder / "report" / "answers.png") as chart:
        assert chart.size[0] > 1000
