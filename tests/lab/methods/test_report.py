from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.kitchen.bench import KitchenBench
from stillframe_lab.libero.bench import Bench, LiberoBench
from stillframe_lab.methods.arm_results import TOGETHER
from stillframe_lab.methods.plan import MethodsPlan
from stillframe_lab.methods.report import write_methods


def cell(outcomes: str, task: int, reuse: float, drift: float) -> dict[str, Any]:
    """An arm's figures in one cell."""
    wins, frames = outcomes.count("1"), 10 * len(outcomes)
    return {
        "episodes": len(outcomes),
        "wins": wins,
        "success": wins / len(outcomes),
        "success_ci95": wilson(wins, len(outcomes)),
        "outcomes": {str(task): outcomes},
        "steps": [100] * len(outcomes),
        "frames": frames,
        "keyframes": frames if not reuse else len(outcomes),
        "reuse_ratio": reuse,
        "decoder_gmacs": 2.0 - reuse,
        "answers_ms": [30.0 - 10 * reuse] * frames,
        "drifts": [drift] * (frames if reuse else 0),
    }


def written(
    out: Path, suite: str | Bench, arms: dict[str, list[dict[str, Any]]], apart: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """The results document and the page; in the second cell the arms `apart` were added to those that were there."""
    settings = dict.fromkeys(arms, ReuseSettings())
    bench: Bench = LiberoBench(suite, "fast") if isinstance(suite, str) else suite
    plan = MethodsPlan(bench, (0, 1), sum(one["episodes"] for one in arms["off"]), 0, settings, Path("tiny"), 4, None)
    out.mkdir(exist_ok=True)
    first = dict.fromkeys(arms, sorted(arms))
    second = {name: sorted(apart) if name in apart else sorted(arms.keys() - {*apart}) for name in arms}
    turns = (first, second)
    cells = [
        {name: {**own[at], TOGETHER: turns[at][name]} for name, own in arms.items() if at < len(own)} for at in range(2)
    ]
    write_methods(out, plan, cells)
    return json.loads((out / f"tiny-{bench.label}-every-4.json").read_text()), (out / "README.md").read_text()


def arms(static_wins: int) -> dict[str, list[dict[str, Any]]]:
    """Forty episodes an arm: `off` and `adaptive` win all, `static-only` so many of a task's twenty."""
    some = "1" * static_wins + "0" * (20 - static_wins)
    return {
        "off": [cell("1" * 20, task, 0.0, 0.0) for task in (0, 1)],
        "static-only": [cell(some, task, 0.8, 0.3) for task in (0, 1)],
        "adaptive": [cell("1" * 20, task, 0.6, 0.01) for task in (0, 1)],
        "51 tokens": [cell(some, task, 0.7, 0.5) for task in (0, 1)],
    }


@pytest.fixture(autouse=True)
def chart(request: pytest.FixtureRequest, undrawn: Callable[..., None]) -> None:
    """An empty file stands for the chart, but in the tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        undrawn("stillframe_lab.methods.report", "success_chart")


@pytest.fixture
def drawn() -> None:
    """The chart is drawn in this test."""


def test_arms_are_pooled_and_compared_with_off(tmp_path: Path) -> None:
    """Over all cells, by task, and against `off` on the same states."""
    document, _ = written(tmp_path, "libero_spatial", arms(10))
    static = document["arms"]["static-only"]

    assert (static["wins"], static["episodes"]) == (20, 40)
    assert static["by_task"]["1"]["wins"] == 10
    assert static["against_off"]["difference"] == -0.5
    assert static["against_off"]["only_base_succeeds"] == 20
    assert static["latency_ms"]["p50"] == 22.0
    assert "against_off" not in document["arms"]["off"]
    assert "drifts" not in static


def test_an_arm_that_played_fewer_is_compared_on_its_own_states(tmp_path: Path) -> None:
    """It is in the table with its episodes, and `off` counts on those alone."""
    some = arms(10)
    some["static-only"] = some["static-only"][:1]
    document, page = written(tmp_path, "libero_spatial", some)
    static = document["arms"]["static-only"]

    assert (static["episodes"], static["wins"]) == (20, 10)
    assert static["against_off"]["difference"] == pytest.approx(-0.5)
    assert static["against_off"]["episodes"] == 20
    assert "| **static-only** | 10/20 | - |" in page


def test_targets_are_met_or_said_not_to_be(tmp_path: Path) -> None:
    """The suite tells methods apart only where the interval says so."""
    apart, _ = written(tmp_path / "a", "libero_spatial", arms(10))
    alike, page = written(tmp_path / "b", "libero_spatial", arms(19))

    assert [one["met"] for one in apart["targets"]] == [True, True, True]
    assert [one["met"] for one in alike["targets"]] == [False, True, True]
    assert "**no**" in page


@pytest.mark.usefixtures("drawn")
def test_the_chart_is_a_picture(tmp_path: Path) -> None:
    """Of all arms; of those that were played, where an arm played fewer; of `off` alone."""
    some = {**arms(10), "static-only": arms(10)["static-only"][:1]}
    for name, played in (("all", arms(10)), ("some", some), ("one", {"off": arms(10)["off"]})):
        written(tmp_path / name, "libero_spatial", played)
        with Image.open(tmp_path / name / "tiny-libero_spatial-every-4.png") as chart:
            assert chart.format == "PNG"
            assert min(chart.size) > 500


def test_the_page_has_every_suite_that_lies_there(tmp_path: Path) -> None:
    """With what was published in a column of its own, where something was; counts in a table of theirs."""
    written(tmp_path, "libero_spatial", arms(10))
    _, page = written(tmp_path, "libero_object", arms(10))
    spatial, other = (part for part in page.split("\n## ") if part.startswith("libero_"))

    assert page.index("## libero_object") < page.index("## libero_spatial")
    assert "| 74.2 % |" in other
    assert "74.2" not in spatial
    assert "reused tokens of a camera\n\n| arm |" in other
    assert (tmp_path / "tiny-libero_object-every-4.png").is_file()


def test_the_kitchen_has_a_section_for_each_background(tmp_path: Path) -> None:
    """What was published stands beside the still one; each says how its pictures are."""
    written(tmp_path, KitchenBench(), {**arms(10), "paper": arms(10)["adaptive"]})
    document, page = written(tmp_path, KitchenBench(distractor=True), arms(10))
    still, moving = (part for part in page.split("\n## ") if part.startswith("jaco2"))

    assert (document["suite"], document["distractor"]) == ("jaco2-moving", True)
    assert ("a moving background" in moving, "a still background" in still) == (True, True)
    assert ("| 82.1 % |" in still, "82.1" in moving) == (True, False)


def test_arms_that_were_not_played_in_turn_are_named(tmp_path: Path) -> None:
    """In groups, of which the page says that their times do not compare; nothing where all were."""
    together, page = written(tmp_path / "a", "libero_spatial", arms(10))
    apart, told = written(tmp_path / "b", "libero_spatial", arms(10), apart=["adaptive"])

    assert together["played_in_turn"] == [["off", "static-only", "adaptive", "51 tokens"]]
    assert "Not all arms were played" not in page
    assert apart["played_in_turn"] == [["off", "static-only", "51 tokens"], ["adaptive"]]
    assert "times compare within a group alone: off, static-only, 51 tokens; adaptive." in told.replace("\n", " ")


def on(computer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written from here on was measured on this one."""
    said = {"cpu": computer, "cores": 2, "load_average": [0.0, 0.0, 0.0], "python": "3.11.7"}
    monkeypatch.setattr("stillframe_lab.methods.report.machine", lambda: said)


def test_an_arm_played_on_another_machine_stands_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own machine and `off`; the others keep theirs, and of two results of an arm the new one is there."""
    on("the first", monkeypatch)
    before, _ = written(tmp_path, "libero_spatial", arms(10))
    on("the second", monkeypatch)
    again = {name: arms(10)[name] for name in ("off", "adaptive")}
    again["adaptive"] = [cell("1" * 19 + "0", task, 0.7, 0.02) for task in (0, 1)]
    after, page = written(tmp_path, "libero_spatial", again)
    (later,) = after["played_later"]
    _, above, below = re.split("(?s)(.*)### Played later: ", page)

    assert after["arms"] == {name: arm for name, arm in before["arms"].items() if name != "adaptive"}
    assert after["made_with"] == before["made_with"]
    assert after["played_in_turn"] == [["off", "static-only", "51 tokens"]]
    assert [*later["arms"]] == ["off", "adaptive"]
    assert (later["made_with"]["cpu"], later["arms"]["adaptive"]["wins"]) == ("the second", 38)
    assert [one["measured"] for one in after["targets"]][1:] == ["5.0", "0.70"]
    assert ("the first, 2 cores" in above, "the second, 2 cores" in above) == (True, False)
    assert ("the first" in below, "the second, 2 cores" in below) == (False, True)
    assert "| **adaptive** | 38/40" in below


def test_an_arm_that_played_more_keeps_its_place(tmp_path: Path) -> None:
    """The fewer episodes of it stand in the group of the arm that they were played for, and no longer than that."""
    few = {name: own[:1] for name, own in arms(10).items() if name in {"off", "adaptive"}}
    before, _ = written(tmp_path, "libero_spatial", arms(10))
    first, _ = written(tmp_path, "libero_spatial", few)
    written(tmp_path, "libero_spatial", {**few, "selected": few["adaptive"]})
    second, page = written(tmp_path, "libero_spatial", {**few, "selected": few["adaptive"]})
    whole, alone = written(tmp_path, "libero_spatial", {**arms(10), "selected": arms(10)["adaptive"]})

    assert first["arms"] == second["arms"] == before["arms"]
    assert [[*one["arms"]] for one in first["played_later"]] == [["off", "adaptive"]]
    assert [[*one["arms"]] for one in second["played_later"]] == [["off", "adaptive", "selected"]]
    assert [one["measured"] for one in second["targets"]] == [one["measured"] for one in before["targets"]]
    assert "20 episodes an arm, of the initial states above" in page
    assert "played_later" not in whole
    assert "Played later" not in alone


def test_results_of_other_episodes_are_not_kept(tmp_path: Path) -> None:
    """Nothing compares with them: what is played takes their place."""
    before, _ = written(tmp_path, "libero_spatial", arms(10))
    file = tmp_path / "tiny-libero_spatial-every-4.json"
    file.write_text(json.dumps({**before, "made_with": {**before["made_with"], "seed": 7}}))
    after, _ = written(tmp_path, "libero_spatial", {"off": arms(10)["off"]})

    assert [*after["arms"]] == ["off"]
