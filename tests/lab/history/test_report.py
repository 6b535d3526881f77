from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe.errors import ConfigError
from stillframe_lab.evaluation.jobs import Folders, save_result
from stillframe_lab.evaluation.page import number, table
from stillframe_lab.history import run as evidence
from stillframe_lab.history.arms import ARMS, FULL, GATE, LINEAR, OFF, SAMPLING, WINDOW
from stillframe_lab.history.earlier import MARK, key_of, marked, read_earlier
from stillframe_lab.history.plan import HARD, LONG, PROOFS, HistoryPlan
from stillframe_lab.history.readme import NAMES, page, shows
from stillframe_lab.history.results import RESULTS, CellResult, document_of, made_with

ROOT = Path(__file__).parents[3]
PICTURES = {"proof.png", "success.png", "cost.png", "long.png", "utility.png", "both.png"}
MADE = ROOT / "docs" / "memory" / "results.json"


@pytest.fixture
def document(plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]) -> dict[str, Any]:
    """Of everything that was planned."""
    return document_of(plan, made_with(plan, "digest"), [one.row for one in played], alone)


def test_the_gate_is_compared_where_others_had_the_same(document: dict[str, Any]) -> None:
    """Success less success on the same seeds, the other's bytes in units of the gate's, several cells as one."""
    long, every, proof = (document["comparisons"][scope] for scope in ("long", "all_delays", "proof"))

    assert long[FULL]["difference"] == pytest.approx(-1 / 20)
    assert (long[FULL]["only_base_succeeds"], long[FULL]["only_arm_succeeds"]) == (1, 0)
    assert long[WINDOW]["difference"] == pytest.approx(16 / 20)
    assert (long[FULL]["bytes_ratio"], long[WINDOW]["bytes_ratio"], long[OFF]["bytes_ratio"]) == (25.0, 1.0, 0.0)
    assert (every[LINEAR]["episodes"], every[LINEAR]["delays"]) == (60, [16, 60, 120])
    assert (proof[SAMPLING]["episodes"], proof[SAMPLING]["delays"]) == (40, [120])
    assert (proof[SAMPLING]["only_arm_succeeds"], proof[SAMPLING]["bytes_ratio"]) == (2 * 11, 1.0)


def test_what_was_wanted_is_judged_by_what_was_measured(document: dict[str, Any]) -> None:
    """Five points are lost where two may be; all else is reached here, in the proof as in the hard variant."""
    met = {(one["scope"], one["what"]): (one["measured"], one["met"]) for one in document["targets"]}

    for scope in (*PROOFS, "long"):
        assert met[scope, "success lost against full history"] == ("5.0 points", False)
        assert met[scope, "memory against full history"] == ("25.0x less", True)
        assert met[scope, "success above a window of equal bytes"] == ("80.0 points", True)
        assert met[scope, "success above the linear score"] == ("+30.0 points", True)
        assert met[scope, "success above frame sampling of equal bytes"] == ("+55.0 points", True)
    assert {met[scope, "success with full history"] for scope in PROOFS} == {("95.0 %", True)}
    assert ("long", "success with full history") not in met
    assert met["step", "decoder step against full history"] == ("1.50x", True)
    assert met["step", "the gate's own time"] == ("1.00 %", True)


def test_the_page_has_every_cell_and_no_holes(document: dict[str, Any], played: list[CellResult]) -> None:
    """A line each, with figures and not with words like None."""
    text = page(document)

    assert text.count("/20 = ") == len(played)
    assert "| gate | 4 | 18/20 = 90.0 % (69.9-97.2) | 50 % | 5 % | 5 % | 32 | 64 | 0.2500 |" in text
    assert "the gate against full history: -5.0 points" in text
    assert "distractor: success above frame sampling of equal bytes" in text
    assert "20 episodes each" in text
    assert "None" not in text
    assert "nan" not in text
    assert "\\*" not in text


def test_what_was_not_played_is_not_spoken_of(
    plan: HistoryPlan, without: Callable[..., list[CellResult]], alone: dict[str, Any]
) -> None:
    """A run that was stopped gets a page of what there is."""
    rows, made = [one.row for one in without(FULL, LINEAR)], made_with(plan, "digest")
    document = document_of(plan, made, rows, alone)
    sentences = " ".join(shows(document))

    assert f"{len(rows)} of {len([*plan.cells()])} planned\ncells" in page(document)
    assert "the gate against window" in sentences
    assert "the gate against full" not in sentences
    assert "linear" not in sentences
    assert page(document_of(plan, made, [], alone)).count("| yes |") == 3 + 2  # time alone, and two long episodes


def earlier_of(plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any], **made: Any) -> dict[str, Any]:
    """What a run on another machine published, without outcomes, as those of before did."""
    theirs = {**made_with(plan, "digest"), "cpu": "Another", "cores": 8, "episodes_per_cell": 16, **made}
    document = json.loads(json.dumps(document_of(plan, theirs, [one.row for one in played], alone)))
    for row in document["rows"]:
        del row["outcomes"]
    return document


def test_a_variant_that_was_not_played_is_said(
    plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]
) -> None:
    """And what was played of the other alone is not called both together."""
    rows = [one.row for one in played if one.cell.variant != PROOFS[1]]
    document = document_of(plan, made_with(plan, "digest"), rows, alone)

    assert f"Not played yet: {PROOFS[1]}." in page(document)
    assert {*PROOFS} - document["comparisons"].keys() == {PROOFS[1]}
    assert "proof" not in document["comparisons"]


def test_two_runs_are_reported_together(plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]) -> None:
    """Cells that are not played now stand as an earlier run left them, and bear its mark; so do their comparisons."""
    earlier = earlier_of(plan, played, alone)
    names = {cell.name for cell in plan.proof()}
    now = [one.row for one in played if one.cell.name in names]
    for row in now:
        row["wins"], row["episodes"] = 5 * row["wins"], 5 * row["episodes"]
        row["outcomes"] = {"remember": 5 * row["outcomes"]["remember"]}
    rest = {name: marked(alone[name], earlier) for name in ("speed", "long", "utility")}
    document = document_of(plan, made_with(plan, "digest"), now, rest, earlier)
    ours, theirs = ([row for row in document["rows"] if (MARK in row) is mark] for mark in (False, True))
    text = page(document)

    assert [key_of(row) for row in document["rows"]] == [cell.key for cell in plan.cells()]
    assert {(row["variant"], row["delay"]) for row in ours} == {(variant, LONG) for variant in PROOFS}
    assert len(ours) == len(PROOFS) * len(ARMS)
    assert {(row[MARK]["cpu"], row["episodes"]) for row in theirs} == {("Another", 20)}
    assert document["comparisons"]["proof"][FULL]["episodes"] == 200
    assert document["comparisons"]["long"] == {
        other: marked(one, earlier) for other, one in earlier["comparisons"]["long"].items()
    }
    assert "100 episodes in each of those of one cube and 20 in each other one" in " ".join(text.split())
    assert text.count("| gate \\* | 4 |") == len(
        [row for row in theirs if (row["arm"], row["budget_chunks"]) == (GATE, 4)]
    )
    assert "an earlier run's (Another, 8 cores" in text
    assert "ordered, delay 120 \\*: the gate against full history" in text
    assert "- simple, delay 120: the gate against full history" in text


def test_a_comparison_of_what_was_played_since_is_not_taken_over(
    plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]
) -> None:
    """The gate was played again, full history was not, and nothing says which of its episodes were won."""
    earlier = earlier_of(plan, played, alone)
    again = [one.row for one in played if (one.cell.arm, one.cell.variant, one.cell.delay) == (GATE, HARD, LONG)]
    document = document_of(plan, made_with(plan, "digest"), again, alone, earlier)

    assert "long" not in document["comparisons"]
    assert "proof" in document["comparisons"]


def test_outcomes_that_were_published_are_compared_with_later_ones(
    plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]
) -> None:
    """A pair of whom one was played now and one before is a pair, and says that it is of two runs."""
    made = made_with(plan, "digest")
    before = [one.row for one in played if one.cell.arm != GATE]
    earlier = json.loads(json.dumps(document_of(plan, made, before, alone)))
    now = [one.row for one in played if one.cell.arm == GATE]
    document = document_of(plan, made, now, alone, earlier)
    whole = document_of(plan, made, [one.row for one in played], alone)
    unmarked = {
        scope: {other: {key: value for key, value in one.items() if key != MARK} for other, one in against.items()}
        for scope, against in document["comparisons"].items()
    }

    assert unmarked == whole["comparisons"]
    assert MARK in document["comparisons"]["long"][FULL]


def test_what_was_taken_over_once_is_still_its_makers(
    plan: HistoryPlan, played: list[CellResult], alone: dict[str, Any]
) -> None:
    """Rows of a run before the earlier one keep its mark."""
    first = earlier_of(plan, played, alone)
    second = document_of(plan, {**made_with(plan, "digest"), "cpu": "A third"}, [], alone, first)
    third = document_of(plan, made_with(plan, "digest"), [], alone, second)

    assert {row[MARK]["cpu"] for row in third["rows"]} == {"Another"}
    assert third["comparisons"] == second["comparisons"]


@pytest.mark.parametrize(
    ("made", "taken"),
    [({}, True), ({"weights": "others"}, False), ({"seed": 1}, False), ({"decay": 0.5}, False), ({"torch": "1"}, True)],
)
def test_another_policys_results_are_not_taken_over(
    plan: HistoryPlan,
    played: list[CellResult],
    alone: dict[str, Any],
    tmp_path: Path,
    made: dict[str, Any],
    *,
    taken: bool,
) -> None:
    """Only what stands on the same weights, seeds and settings; which machine it was on does not matter."""
    file = tmp_path / RESULTS
    ours = made_with(plan, "digest")
    assert read_earlier(file, ours, HARD) is None
    file.write_text(json.dumps(earlier_of(plan, played, alone, **made)))

    assert (read_earlier(file, ours, HARD) is not None) is taken
    assert read_earlier(file, ours, "simple") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"made_with": {}}'])
def test_what_is_no_results_document_is_refused(plan: HistoryPlan, tmp_path: Path, text: str) -> None:
    """It would be written over."""
    file = tmp_path / RESULTS
    file.write_text(text)

    with pytest.raises(ConfigError, match="is no results document of older frames"):
        read_earlier(file, made_with(plan, "digest"), HARD)


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
        if row["variant"] == hard["variant"] and row["delay"] == hard["delay"] and row["arm"] in speed
    ]
    return table(("older frames", "success", "KiB held", "decoder, ms a step"), rows)


def test_the_excerpt_is_of_the_hard_variant_after_the_long_wait(document: dict[str, Any]) -> None:
    """An arm a line: success, what it holds, what a step takes."""
    lines = excerpt(document).splitlines()

    assert len(lines) == 2 + len(ARMS)
    assert "| gate | 18 of 20 | 32 | 10.0 |" in lines
    assert "| full history | 19 of 20 | 800 | 15.0 |" in lines


@pytest.fixture
def measured(alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run without a policy; what it measures and draws, by name."""
    found: list[str] = []

    def measure(name: str) -> Callable[..., dict[str, Any]]:
        return lambda *_: found.append(name) or alone[name]  # type: ignore[func-returns-value]  # None, then the rest

    def draw(file: Path, *_: object) -> None:
        found.append(file.name)
        file.touch()

    monkeypatch.setattr(evidence, "ALONE", {name: (name, measure(name)) for name in evidence.ALONE})
    monkeypatch.setattr(evidence, "load_history", lambda *_: None)
    monkeypatch.setattr(evidence, "checkpoint_digest", lambda _: "digest")
    monkeypatch.setattr(evidence, "open_policy", lambda _: (None, None))
    monkeypatch.setattr(evidence, "write_figure", draw)
    return found


@pytest.fixture
def draw_no_more(undrawn: Callable[..., None]) -> Callable[[], None]:
    """From `draw_no_more()` on an empty file stands for each chart."""
    charts = (f"{name}_chart" for name in ("proof", "success", "cost", "long", "utility"))
    return lambda: undrawn("stillframe_lab.history.results", *charts)


def test_a_stopped_run_leaves_a_report_and_goes_on(
    plan: HistoryPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: list[str],
    draw_no_more: Callable[[], None],
) -> None:
    """An interrupt still leaves all files; what is measured alone is not measured again."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evidence, "run_missing", stop)
    folders = Folders(tmp_path / "work", tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evidence.run_memory(plan, folders, 1, Quiet())
    files = {file.name for file in folders.out.iterdir()}
    draw_no_more()
    with pytest.raises(KeyboardInterrupt):
        evidence.run_memory(plan, folders, 1, Quiet())

    assert measured == ["speed", "long", "utility", "both.png", "both.png"]
    assert files == {*PICTURES, "README.md", "results.json"}
    assert "png" not in json.loads((folders.out / "results.json").read_text())["utility"]


def test_what_is_named_is_played_and_the_rest_stays(
    plan: HistoryPlan,
    played: list[CellResult],
    alone: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: list[str],
    draw_no_more: Callable[[], None],
) -> None:
    """`--cell proof` beside an earlier report: nothing else is played, measured or drawn anew, nothing else is lost."""
    asked: list[str] = []
    found = {one.cell.name: one.result for one in played}

    def play(_: object, jobs: list[Any], *__: object) -> None:
        for job in jobs:
            asked.append(job.cell.name)
            save_result(job.file, job.origin, dict(found[job.cell.name]))

    monkeypatch.setattr(evidence, "run_missing", play)
    folders = Folders(tmp_path / "work", tmp_path / "out").create()
    (folders.out / RESULTS).write_text(json.dumps(earlier_of(plan, played, alone)))
    written = evidence.run_memory(plan, folders, 1, Quiet(), ["proof"])
    document = json.loads((folders.out / RESULTS).read_text())

    assert asked == [cell.name for cell in plan.proof()]
    assert measured == []
    assert {*written} == {*PICTURES, "README.md", RESULTS} - {"utility.png", "both.png"}
    assert len(document["rows"]) == len(played)
    assert {MARK in document[name] for name in ("speed", "long", "utility")} == {True}
    draw_no_more()
    evidence.run_memory(plan, folders, 1, Quiet(), ["speed", "gate-4--ordered-120"])
    assert measured == ["speed"]
    assert asked[-1] == "gate-4--ordered-120"


def test_a_name_that_is_no_cell_is_refused(plan: HistoryPlan, tmp_path: Path) -> None:
    """Before anything is made, with the names that there are."""
    with pytest.raises(
        ConfigError, match=r"--cell prof: expected some of proof, speed, long, utility, or cells by name"
    ):
        evidence.run_memory(plan, Folders(tmp_path / "work", tmp_path / "out"), 1, Quiet(), ["proof", "prof"])

    assert not (tmp_path / "out").exists()


class Quiet:
    """A reporter that says nothing."""

    def stage(self, line: str) -> None:
        """Nothing."""

    def expect(self, cells: int) -> None:
        """Nothing."""

    def played(self, cell: str) -> None:
        """Nothing."""


@pytest.mark.skipif(not MADE.is_file(), reason="docs/memory is not made yet: stillframe study memory")
def test_the_readmes_are_made_of_the_results() -> None:
    """docs/memory to the letter; and the README's table is the last run's."""
    document = json.loads(MADE.read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())

    assert (MADE.parent / "README.md").read_text() == page(document)
    assert " ".join(excerpt(document).split()) in readme
