"""One episode end to end: a daemon, the bridge, its streamer and a simulated world, each its own process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from stillframe.errors import ConfigError
from stillframe_lab.bridge import demo, run
from stillframe_lab.bridge.cells import Cell, Played, Results, cells_named
from stillframe_lab.bridge.run import BridgeEvaluation, play_missing

ROOT = Path(__file__).parents[3]
DAEMON, BRIDGE = ROOT / "configs" / "jaco-tiny.yaml", ROOT / "configs" / "jaco2-sim.toml"
ENDS = ("success", "wrong object", "120 steps")


class Watched:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.expected: list[tuple[str, int]] = []
        self.episodes: list[Played] = []

    def expect(self, cell: str, episodes: int) -> None:
        """A cell begins."""
        self.expected.append((cell, episodes))

    def played(self, episode: Played) -> None:
        """An episode is over."""
        self.episodes.append(episode)


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped configurations name the checkpoint from the repository's root."""
    monkeypatch.chdir(ROOT)


def test_what_was_played_is_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches, over one daemon a cell, which is not started where nothing is missing; figures a batch."""
    started: list[list[str]] = []
    batches: list[list[int]] = []

    @contextmanager
    def daemon(options: list[str]) -> Iterator[str]:
        started.append(options)
        yield "http://127.0.0.1:1"

    def play_cell(cell: Cell, _: Any, seeds: Sequence[int], folder: Path, keep: Any, options: Any) -> dict[str, Any]:
        batches.append([*seeds])
        folder.mkdir(parents=True)
        for seed in seeds:
            keep(Played(cell.name, seed, options["task"], True, False, 30, 25, 3.5, "success"))  # noqa: FBT003
        return {"late_ms": {"beats": 101}}

    monkeypatch.setattr(run, "daemon", daemon)
    monkeypatch.setattr(run, "play_cell", play_cell)
    monkeypatch.setattr(run, "run_figures", lambda folder: {"folder": folder.name})
    plan = BridgeEvaluation(DAEMON, BRIDGE, "pick", range(1000, 1012), tuple(cells_named(["lockstep"])))
    results, first, second = Results(tmp_path), Watched(), Watched()
    play_missing(plan, results, first)
    play_missing(plan, results, second)

    assert (started, batches) == ([[str(DAEMON)]], [[*range(1000, 1010)], [1010, 1011]])
    assert results.episodes("lockstep") == first.episodes
    assert (first.expected, [played.seed for played in first.episodes]) == ([("lockstep", 12)], [*range(1000, 1012)])
    assert [figures["seeds"] for figures in results.figures("lockstep")] == [[1000, 1009], [1010, 1011]]
    assert (second.expected, second.episodes) == ([("lockstep", 0)], [])
    assert [*(tmp_path / "runs").iterdir()] == []


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.usefixtures("at_root", "needs_gl")
def test_an_episode_is_played_kept_and_not_played_again(tmp_path: Path) -> None:
    """In lock-step it ends by the world's verdict, without a fault, with figures; a second run plays nothing."""
    plan = BridgeEvaluation(DAEMON, BRIDGE, "pick", range(1000, 1001), tuple(cells_named(["lockstep"])))
    results, first, second = Results(tmp_path), Watched(), Watched()

    play_missing(plan, results, first)
    play_missing(plan, results, second)

    (played,) = first.episodes
    assert results.episodes("lockstep") == [played]
    assert not played.fault
    assert played.reason in ENDS
    assert played.answers > 5
    (figures,) = results.figures("lockstep")
    assert len(figures["frame_to_command_ms"]) >= played.answers - 1
    assert figures["world"]["late_ms"]["beats"] > 100
    assert (second.expected, second.episodes) == ([("lockstep", 0)], [])


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.usefixtures("at_root", "needs_gl")
def test_the_demo_leaves_an_animation_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Realtime: the table, a GIF as long as its episode, and the report's charts."""
    monkeypatch.setattr(demo, "SEEDS", range(1000, 1001))
    monkeypatch.setattr(demo, "NEEDED", 0)
    with (tmp_path / "terminal.txt").open("w") as terminal:
        assert demo.run_demo(DAEMON, BRIDGE, tmp_path / "out", "realtime", Console(file=terminal, width=120))

    said = (tmp_path / "terminal.txt").read_text()
    assert "frame to command" in said
    with Image.open(tmp_path / "out" / "bridge.gif") as film:
        assert film.n_frames > 10
        assert film.size == (524, 224)
    assert {file.name for file in (tmp_path / "out" / "report").glob("*.png")} >= {"velocity.png", "states.png"}
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["policy"]["mode"] == "realtime"


def test_a_folder_that_cannot_be_made_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """The error names it and the option."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="choose another --out"):
        demo.run_demo(DAEMON, BRIDGE, tmp_path / "file" / "out", "realtime", Console())
