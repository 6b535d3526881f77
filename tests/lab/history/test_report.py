from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe_lab.evaluation.jobs import Folders
from stillframe_lab.evaluation.page import number, table
from stillframe_lab.history import run as evidence
from stillframe_lab.history.arms import FULL, LINEAR, OFF, WINDOW
from stillframe_lab.history.plan import HistoryPlan
from stillframe_lab.history.readme import NAMES, page, shows
from stillframe_lab.history.results import CellResult, document_of

ROOT = Path(__file__).parents[3]
MADE = ROOT / "docs" / "memory" / "results.json"


@pytest.fixture
def document(plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]) -> dict[str, Any]:
    """Of everything that was planned."""
    return document_of(plan, [one.row for one in played], len(played), alone)


def test_the_gate_is_compared_where_others_had_the_same(document: dict[str, Any]) -> None:
    """Success less success on the same seeds, what the other holds in units of the gate's bytes, all delays as one."""
    long, every = document["comparisons"]["long"], document["comparisons"]["all_delays"]

    assert long[FULL]["difference"] == pytest.approx(-1 / 20)
    assert (long[FULL]["only_base_succeeds"], long[FULL]["only_arm_succeeds"]) == (1, 0)
    assert long[WINDOW]["difference"] == pytest.approx(16 / 20)
    assert (long[FULL]["bytes_ratio"], long[WINDOW]["bytes_ratio"], long[OFF]["bytes_ratio"]) == (25.0, 1.0, 0.0)
    assert (every[LINEAR]["episodes"], every[LINEAR]["delays"]) == (60, [16, 60, 120])


def test_what_was_wanted_is_judged_by_what_was_measured(document: dict[str, Any]) -> None:
    """Five points are lost where two may be; all else is reached here."""
    met = {one["what"]: (one["measured"], one["met"]) for one in document["targets"]}

    assert met["success lost against full history"] == ("5.0 points", False)
    assert met["memory against full history"] == ("25.0x less", True)
    assert met["success above a window of equal bytes"] == ("80.0 points", True)
    assert met["success above the linear score"] == ("+30.0 points", True)
    assert met["decoder step against full history"] == ("1.50x", True)
    assert met["the gate's own time"] == ("1.00 %", True)


def test_the_page_has_every_cell_and_no_holes(document: dict[str, Any], played: list[CellResult]) -> None:
    """A line each, with figures and not with words like None."""
    text = page(document)

    assert text.count("/20 = ") == len(played)
    assert "| gate | 4 | 18/20 = 90.0 % (69.9-97.2) | 50 % | 5 % | 5 % | 32 | 64 | 0.2500 |" in text
    assert "the gate against full history: -5.0 points" in text
    assert "None" not in text
    assert "nan" not in text


def test_what_was_not_played_is_not_spoken_of(
    plan: HistoryPlan, without: Callable[..., list[CellResult]], alone: dict[str, Any]
) -> None:
    """A run that was stopped gets a page of what there is."""
    rows = [one.row for one in without(FULL, LINEAR)]
    document = document_of(plan, rows, 39, alone)
    sentences = " ".join(shows(document))

    assert f"{len(rows)} of 39 planned\ncells" in page(document)
    assert "the gate against window" in sentences
    assert "the gate against full" not in sentences
    assert "linear" not in sentences
    assert page(document_of(plan, [], 39, alone)).count("| yes |") == 3 + 2  # time alone, and two long episodes


def excerpt(document: dict[str, Any]) -> str:
    """README's table: the hard variant at the long delay, and what a step takes then."""
    hard, speed = document["hard"], document["speed"]["modes"]["off"]
    rows = [
        (
            NAMES[row["arm"]],
            f"{row['wins']} of {row['episodes']}",
            f"{row['history_end_mib'] * 1024:.0f}",
            number(speed[row["arm"]]["decoder_ms"], 1),
        )
        for row in document["rows"]
        if row["variant"] == hard["variant"] and row["delay"] == hard["delay"]
    ]
    return table(("older frames", "success", "KiB held", "decoder, ms a step"), rows)


def test_the_excerpt_is_of_the_hard_variant_after_the_long_wait(document: dict[str, Any]) -> None:
    """An arm a line: success, what it holds, what a step takes."""
    lines = excerpt(document).splitlines()

    assert len(lines) == 2 + 7
    assert "| gate | 18 of 20 | 32 | 10.0 |" in lines
    assert "| full history | 19 of 20 | 800 | 15.0 |" in lines


def test_a_stopped_run_leaves_a_report_and_goes_on(
    plan: HistoryPlan, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts the playing still gets all files; what is measured alone is not measured again."""
    measured: list[str] = []

    def measure(name: str) -> Callable[..., dict[str, Any]]:
        def measured_(*_: object) -> dict[str, Any]:
            measured.append(name)
            found: dict[str, Any] = alone[name]
            return found

        return measured_

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evidence, "ALONE", {name: (name, measure(name)) for name in evidence.ALONE})
    monkeypatch.setattr(evidence, "run_missing", stop)
    monkeypatch.setattr(evidence, "load_history", lambda *_: None)
    monkeypatch.setattr(evidence, "checkpoint_digest", lambda _: "digest")
    monkeypatch.setattr(evidence, "open_policy", lambda _: (None, None))
    monkeypatch.setattr(evidence, "write_figure", lambda file, *_: file.touch())
    folders = Folders(tmp_path / "work", tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evidence.run_memory(plan, folders, 1, Quiet())
    files = {file.name for file in folders.out.iterdir()}
    monkeypatch.setattr(evidence, "write_report", lambda *_: [])
    with pytest.raises(KeyboardInterrupt):
        evidence.run_memory(plan, folders, 1, Quiet())

    assert measured == ["speed", "long", "utility"]
    assert files == {"README.md", "results.json", "success.png", "cost.png", "long.png", "utility.png", "both.png"}
    assert "png" not in json.loads((folders.out / "results.json").read_text())["utility"]


class Quiet:
    """A reporter that says nothing."""

    def stage(self, line: str) -> None:
        """Nothing."""

    def expect(self, cells: int) -> None:
        """Nothing."""

    def played(self, cell: str) -> None:
        """Nothing."""


@pytest.mark.skipif(not MADE.is_file(), reason="docs/memory is not made yet: stillframe eval --memory")
def test_the_readmes_are_made_of_the_results() -> None:
    """docs/memory to the letter; and the README's table is the last run's."""
    document = json.loads(MADE.read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())

    assert (MADE.parent / "README.md").read_text() == page(document)
    assert " ".join(excerpt(document).split()) in readme
