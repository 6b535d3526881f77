"""`stillframe study`: what each sub-command plays where little is typed and where much is, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from stillframe_lab.bridge.cells import CELLS
from stillframe_lab.cli.shipped import FAMILIES, TINY, TINY_COGACT, TINY_KITCHEN, TINY_MEMORY, TINY_OFT, TINY_PI0
from stillframe_lab.evaluation.evaluate import Evaluation
from stillframe_lab.evaluation.jobs import Folders
from stillframe_lab.methods.evidence import BEGIN, END

Typed = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def studied(typed: Typed) -> Typed:
    """Type `stillframe study` with more words -> status, stdout, stderr."""
    return partial(typed, "study")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Put something that plays nothing in a function's place -> the arguments of each of its calls, as they come."""

    def stand_in(name: str) -> list[Any]:
        calls: list[Any] = []

        def note(*words: Any, **named: Any) -> Sequence[str]:
            calls.append((*words, *named.values()))
            return ("README.md",)

        monkeypatch.setattr(f"stillframe_lab.{name}", note)
        return calls

    return stand_in


def test_an_ablation_knows_its_deployment(studied: Typed, asked: Callable[[str], list[Any]], tmp_path: Path) -> None:
    """Knobs come from the YAML that was named; plan, folders and processes are those of the options."""
    calls = asked("ablation.run.run_ablation")
    (tmp_path / "a.yaml").write_text("checkpoint: c\nreuse:\n  adaptive:\n    top_k: 99\n")
    folders = ("--out", tmp_path / "out", "--run", tmp_path / "run")
    status, *_ = studied("ablation", "--config", tmp_path / "a.yaml", "--episodes", 8, "--workers", 1, *folders)
    ((plan, where, workers, _, _),) = calls

    assert status == 0
    assert (plan.checkpoint, plan.reuse.adaptive.top_k, plan.episodes, plan.seed, workers) == (TINY, 99, 8, 1000, 1)
    assert where == Folders(tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize("name", ["ablation", "families"])
def test_two_tasks_take_two_episodes(studied: Typed, name: str) -> None:
    """One cannot be halved."""
    status, _, err = studied(name, "--episodes", 1)

    assert status == 2
    assert "Invalid value for '--episodes'" in err


def test_families_are_those_that_are_there(
    studied: Typed, asked: Callable[[str], list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or those that are named; with none there a policy is asked for, and one that is named has to be there."""
    calls = asked("ablation.families_run.run_families")
    monkeypatch.chdir(tmp_path)
    nothing = studied("families")
    for folder in FAMILIES[:2]:
        folder.mkdir(parents=True)
    (tmp_path / "own").mkdir()
    status, out, _ = studied("families")
    studied("families", "--checkpoint", "own", "--checkpoint", FAMILIES[1], "--execute", 3, "--workers", 1)
    missing = studied("families", "--checkpoint", "elsewhere")
    (all_there, where, two, _), (named, _, one, _) = calls

    assert (status, out) == (0, "written: docs/ablation/families/README.md\n")
    assert [family.checkpoint for family in all_there.families] == [*FAMILIES[:2]]
    assert (all_there.episodes, all_there.seed, where) == (
        100, 1000, Folders(Path("runs/families"), Path("docs/ablation/families"))
    )  # fmt: skip
    assert [(family.checkpoint, family.execute) for family in named.families] == [(Path("own"), 3), (FAMILIES[1], 3)]
    assert (two, one) == (2, 1)
    assert (nothing[0], missing[0]) == (1, 2)
    assert "none of them is here; name a policy by --checkpoint" in " ".join(nothing[2].split())
    assert "Invalid value for '--checkpoint'" in missing[2]


def test_methods_are_played_in_a_suite(studied: Typed, asked: Callable[[str], list[Any]]) -> None:
    """By a policy that is named: of some tasks, or with some methods, as its deployment asks it."""
    calls = asked("methods.run.run_methods")
    policy = ("--suite", "jaco2", "--checkpoint", TINY_KITCHEN)
    status, *_ = studied("methods", *policy)
    studied("methods", *policy, "--tasks", "0,2", "--arm", "paper", "--arm", "fastv", "--execute", 8, "--distractor")
    (plan, where, _, _), (some, *_) = calls

    assert status == 0
    assert (plan.checkpoint, plan.tasks, plan.episodes, plan.seed) == (TINY_KITCHEN, (0, 1, 2, 3), 200, 0)
    assert (plan.execute, [*plan.wanted], where.out) == (4, [], Path("docs/methods"))
    assert (some.tasks, some.execute, [*some.wanted]) == ((0, 2), 8, ["paper", "fastv"])
    assert (plan.bench.origin["distractor"], some.bench.origin["distractor"]) == (False, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "Missing option '--suite'"),
        (("--suite", "jaco2"), "Missing option '--checkpoint'"),
        (("--suite", "jaco2", "--checkpoint", TINY_KITCHEN, "--pictures", "fast"), "has pictures of one kind"),
        (("--suite", "jaco3", "--checkpoint", TINY_KITCHEN), "--suite jaco3: expected one of"),
        (("--suite", "libero_goal", "--checkpoint", TINY_KITCHEN, "--distractor"), "nothing moves behind the scenes"),
    ],
)
def test_methods_take_a_suite_and_a_policy_for_it(studied: Typed, words: tuple[object, ...], problem: str) -> None:
    """Before the policy is loaded."""
    status, _, err = studied("methods", *words)

    assert status in {1, 2}
    assert problem in " ".join(err.split())


def test_the_study_of_memory_knows_its_deployment(
    studied: Typed, asked: Callable[[str], list[Any]], tmp_path: Path
) -> None:
    """Like the ablation's, with numbers of its own where none are typed."""
    calls = asked("history.run.run_memory")
    (tmp_path / "a.yaml").write_text("checkpoint: c\nhistory:\n  decay: 0.9\n")
    status, *_ = studied("memory", "--config", tmp_path / "a.yaml", "--workers", 1)
    studied("memory", "--variant", "simple", "--episodes", 7, "--cell", "proof", "--cell", "speed")
    (plan, where, workers, _, names), (short, _, _, _, some) = calls
    _, _, err = studied("memory", "--variant", "odd")

    assert status == 0
    assert (plan.checkpoint, plan.history.decay, plan.episodes, plan.seed) == (TINY_MEMORY, 0.9, 30, 40_000)
    assert (plan.variant, short.variant, workers) == ("ordered", "simple", 1)
    assert (plan.proof_episodes, short.episodes, short.proof_episodes) == (100, 7, 7)
    assert ([*names], [*some]) == ([], ["proof", "speed"])
    assert where == Folders(Path("runs/memory"), Path("docs/memory"))
    assert "--variant odd: expected one of simple" in " ".join(err.split())


def test_a_prefix_is_kept_by_the_shipped_pi0(studied: Typed, asked: Callable[[str], list[Any]]) -> None:
    """Or another policy's; as its deployment plays chunks."""
    calls = asked("ablation.prefix_run.run_prefix")
    status, *_ = studied("prefix-caches", "--seed", 3)
    ((plan, where, *_),) = calls

    assert status == 0
    assert (plan.family.checkpoint, plan.family.execute, plan.episodes, plan.seed) == (TINY_PI0, 5, 60, 3)
    assert where.out == Path("docs/ablation/prefix")


@pytest.mark.parametrize("name", ["prefix-caches", "rtc", "under-load"])
def test_a_folder_that_is_not_there_is_refused(studied: Typed, tmp_path: Path, name: str) -> None:
    """In the words of every usage error."""
    status, _, err = studied(name, "--checkpoint", tmp_path / "nowhere")

    assert status == 2
    assert "Invalid value for '--checkpoint'" in err


def test_chunks_are_held_under_delays(studied: Typed, asked: Callable[[str], list[Any]]) -> None:
    """Of a policy that is named; milliseconds are whole ones."""
    calls = asked("rtc.report.run_rtc")
    status, *_ = studied("rtc", "--checkpoint", TINY_COGACT)
    studied("rtc", "--checkpoint", TINY_COGACT, "--delay-ms", "0,200", "--hz", 5, "--task", "reach", "--execute", 2)
    (plan, where, *_), (other, *_) = calls
    unnamed, odd = studied("rtc"), studied("rtc", "--checkpoint", TINY_COGACT, "--delay-ms", "soon")

    assert (status, where.out) == (0, Path("docs/rtc"))
    assert (plan.task, plan.episodes, plan.seed, plan.hz, plan.execute) == ("pick", 20, 1000, 10, None)
    assert (plan.delays_ms, other.delays_ms) == ((0, 100, 200, 400), (0, 200))
    assert (other.task, other.hz, other.execute) == ("reach", 5, 2)
    assert (unnamed[0], "Missing option '--checkpoint'" in unnamed[2]) == (2, True)
    assert (odd[0], "--delay-ms is 'soon'; expected whole milliseconds" in " ".join(odd[2].split())) == (1, True)


def test_the_bridge_plays_every_cell_or_some(studied: Typed, asked: Callable[[str], list[Any]], tmp_path: Path) -> None:
    """On the same seeds, by the daemon's configuration; the report is of what --run has."""
    calls, written = asked("bridge.run.play_missing"), asked("bridge.report.write_report")
    folders = ("--run", tmp_path / "run", "--out", tmp_path / "out")
    status, *_ = studied("bridge", *folders)
    studied("bridge", *folders, "--cell", "eval", "--cell", "realtime", "--episodes", 2, "--seed", 7, "--task", "reach")
    (plan, results, _), (some, *_) = calls
    _, _, err = studied("bridge", *folders, "--cell", "fast")

    assert status == 0
    assert (plan.daemon_config, plan.task, plan.seeds) == (Path("configs/jaco-tiny.yaml"), "pick", range(1000, 1060))
    assert (plan.cells, results.folder) == (CELLS, tmp_path / "run")
    assert ([cell.name for cell in some.cells], some.task, some.seeds) == (
        ["eval", "realtime"], "reach", range(7, 9)
    )  # fmt: skip
    assert written[0] == (results, CELLS, {"task": "pick", "seed": 1000, "policy": str(plan.daemon_config)}, folders[3])
    assert "--cell fast: expected some of eval, lockstep" in " ".join(err.split())


def test_drafts_are_decoded_in_bfloat16_unless_told(studied: Typed, asked: Callable[[str], list[Any]]) -> None:
    """Twenty episodes, and nothing is reused."""
    calls = asked("drafts.report.run_drafts")
    status, *_ = studied("drafts", "--device", "cpu")
    more = ("--episodes", 3, "--seed", 4, "--hz", 5, "--task", "reach", "--reuse", "exact", "--dtype", "float32")
    studied("drafts", "--device", "cpu", *more)
    ((plan, load, reuse, out, _), (other, load_single, exact, _, _)) = calls

    assert status == 0
    assert (plan, reuse.mode, out) == (Evaluation("pick", 20, 1000, 10), "off", Path("docs/drafts"))
    assert (other, exact.mode) == (Evaluation("reach", 3, 4, 5), "exact")
    assert (load().dtype, load_single().dtype) == (torch.bfloat16, torch.float32)


def test_load_has_rounds_and_a_page(studied: Typed, asked: Callable[[str], list[Any]], tmp_path: Path) -> None:
    """Too few rounds are refused, for the first two are not counted; with pauses the table is another one."""
    room = "ablation.under_load"
    asked("ablation.speed.record_episodes")
    plans, written = asked(f"{room}.play_arms"), asked(f"{room}_report.write_under_load")
    asked(f"{room}_report.figures")
    status, out, _ = studied("under-load", "--out", tmp_path / "drift.md")
    studied("under-load", "--checkpoint", TINY_OFT, "--rounds", 3, "--pause-ms", 500)
    (plan, *_), (paused, *_) = plans
    few, _, err = studied("under-load", "--rounds", 2)

    assert (status, out) == (0, f"written: {tmp_path}/drift.md, drift-jaco-tiny.json\n")
    assert (plan.rounds, plan.pause_s, plan.execute) == (8, 0.0, 1)
    assert (paused.rounds, paused.pause_s, paused.execute) == (3, 0.5, 4)
    assert [(page, name) for page, name, _ in written] == [
        (tmp_path / "drift.md", "jaco-tiny"), (Path("docs/drift.md"), "jaco-tiny-oft-paused")
    ]  # fmt: skip
    assert (few, "Invalid value for '--rounds'" in err) == (2, True)
    assert plan.unsettled < 3


def test_evidence_is_written_in_a_checkout(studied: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere a line says that there is none."""
    monkeypatch.chdir(tmp_path)
    status, _, err = studied("evidence")
    results = Path("docs/ablation/families/results.json")
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({"families": {}}))
    Path("README.md").write_text(f"{BEGIN}\nold\n{END}\n")

    assert status == 1
    assert "run it in a checkout of the repository" in " ".join(err.split())
    assert studied("evidence")[:2] == (0, "written: README.md\n")
    assert "old" not in Path("README.md").read_text()
