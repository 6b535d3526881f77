from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.models.registry import load_policy
from stillframe.reuse.settings import PaperSettings, ReuseSettings
from stillframe_lab.evaluation.trace import AnsweredFrame
from stillframe_lab.libero.bench import LiberoBench
from stillframe_lab.libero.episode import Answers, Draw
from stillframe_lab.libero.process import CAMERAS, Masks, Pictures, Reading, Scene
from stillframe_lab.libero.suites import SETTLE, EpisodeId
from stillframe_lab.methods import cell as methods_cell
from stillframe_lab.methods.arm_results import TOGETHER, finished_arms, save_arms
from stillframe_lab.methods.cell import arm_players, arm_result, played_in_turn, turned
from stillframe_lab.methods.plan import MethodsCell, MethodsPlan


class Line:
    """A simulator in which the hand has to go a metre along x; its moves are written down."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.drawn = 0

    def open(self, suite: str, task: int) -> Scene:
        """Any task."""
        assert suite == "libero_spatial"
        return Scene(f"do {task}", 50, [], {}, {})

    def reset(self, init_state: int | None, seed: int) -> Reading:
        """Begin."""
        assert init_state is not None
        assert seed == init_state
        self.began.append(init_state)
        self.at = 0.0
        return self.reading

    def step(self, action: np.ndarray) -> Reading:
        """Go on."""
        self.at += float(action[0])
        return self.reading

    def pictures(self, cameras: Sequence[str]) -> Pictures:
        """None are looked at."""
        self.drawn += len(cameras)
        return {}

    def masks(self, cameras: Sequence[str]) -> Masks:
        """Nor are these asked for."""
        raise AssertionError(cameras)

    @property
    def reading(self) -> Reading:
        """Where the hand is."""
        return Reading(np.array([self.at, 0, 0]), np.array([0, 0, 0, 1.0]), np.zeros(2), self.at > 1, {})


class Runner:
    """A player of one speed, which answers each step; its drift is its speed."""

    def __init__(self, name: str, speed: float, order: list[str]):
        self._name, self._speed, self._order = name, speed, order

    def begin(self, scene: Scene) -> None:
        """It is its turn."""
        assert scene.instruction == "do 4"
        self._order.append(self._name)
        self._steps = 0

    def action(self, reading: Reading, draw: Draw) -> np.ndarray:
        """Along x, whatever it sees."""
        assert draw([]) == {}
        assert not reading.success
        self._steps += 1
        return SETTLE + np.array([self._speed, 0, 0, 0, 0, 0, 0])

    def taken(self) -> Answers:
        """One frame a step: the first whole, of the others half is reused."""
        reused = [0, *[50] * (self._steps - 1)]
        frames = [
            AnsweredFrame("m", None if count else "first-frame", count / 100, count, 100, {}, gmacs=2.0 - count / 50)
            for count in reused
        ]
        return Answers(tuple(frames), (3.0,) * self._steps, (self._speed,) * (self._steps - 1))


@pytest.fixture
def played() -> tuple[Mapping[str, Any], list[str], Line]:
    """A quick and a slow arm from three states, of which the slow one is too slow: results, whose turn it was."""
    plan = MethodsPlan(LiberoBench("libero_spatial", ""), (4,), 8, 0, {}, Path("policy"), 1, None)
    cell = MethodsCell(plan, 4, (5, 6, 7))
    order: list[str] = []
    simulator = Line()
    players = {"quick": Runner("quick", 0.3, order), "slow": Runner("slow", 0.001, order)}
    return played_in_turn(cell, simulator, players), order, simulator


def test_every_arm_plays_each_state_before_the_next(played: tuple[Mapping[str, Any], list[str], Line]) -> None:
    """In one simulator, and each is the first in its turn."""
    results, order, simulator = played

    assert simulator.began == [5, 5, 6, 6, 7, 7]
    assert order == ["quick", "slow", "slow", "quick", "quick", "slow"]
    assert [one.id for one in results["slow"]] == [EpisodeId(4, 5), EpisodeId(4, 6), EpisodeId(4, 7)]


def test_an_arms_figures(played: tuple[Mapping[str, Any], list[str], Line]) -> None:
    """Success by the order of the states; reuse, drift and work over all of its answers."""
    quick, slow = (arm_result(4, played[0][name]) for name in ("quick", "slow"))

    assert (quick["wins"], quick["episodes"], quick["outcomes"], quick["steps"]) == (3, 3, {"4": "111"}, [4, 4, 4])
    assert (slow["wins"], slow["outcomes"], slow["steps"]) == (0, {"4": "000"}, [220] * 3)
    assert quick["reuse_ratio"] == pytest.approx(3 / 8)
    assert quick["decoder_gmacs"] == pytest.approx((2 + 3 * 1) / 4)
    assert (quick["keyframes"], quick["frames"], quick["drift"]["p90"]) == (3, 12, pytest.approx(0.3))
    assert (len(quick["answers_ms"]), len(quick["drifts"])) == (12, 9)


def test_a_cell_plays_the_arms_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In turn with each other; whatever has a result neither plays again nor changes."""
    order: list[str] = []
    arms = {"quick": ReuseSettings(), "slow": ReuseSettings(mode="paper"), "late": ReuseSettings(mode="exact")}
    plan = MethodsPlan(LiberoBench("libero_spatial", ""), (4,), 2, 0, arms, Path("policy"), 1, None)
    cell = MethodsCell(plan, 4, (5, 6))
    save_arms(cell, {}, tmp_path, {"slow": {"wins": 1}})

    def players(_: MethodsPlan, missing: Mapping[str, ReuseSettings], *__: Any) -> dict[str, Runner]:
        return {name: Runner(name, 0.3, order) for name in missing}

    monkeypatch.setattr(methods_cell, "open_cpu_model", lambda *_: None)
    monkeypatch.setattr(methods_cell, "arm_players", players)
    monkeypatch.setattr(LiberoBench, "simulator", lambda *_, **__: nullcontext(Line()))
    methods_cell.play_methods_cell(cell, {}, tmp_path)
    finished = finished_arms(cell, {}, tmp_path)

    assert order == ["quick", "late", "late", "quick"]
    assert [(name, one["wins"], one[TOGETHER]) for name, one in finished.items()] == [
        ("quick", 2, ["late", "quick"]),
        ("slow", 1, ["slow"]),
        ("late", 2, ["late", "quick"]),
    ]


def test_masks_are_sent_with_the_pictures_of_arms_that_go_by_them(oft_folder: Path) -> None:
    """Of the cameras that the policy sees; other arms are asked without."""
    model, asked = load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu")), list[Sequence[str]]()
    paper = PaperSettings(relevance="masks", k=None, tau=-1.0, top_k=200)
    arms = {"masks": ReuseSettings("paper", paper=paper), "off": ReuseSettings()}
    plan = MethodsPlan(LiberoBench("libero_spatial", "fast"), (4,), 2, 0, arms, oft_folder, 1, None)

    def masks(cameras: Sequence[str]) -> dict[str, np.ndarray]:
        asked.append(cameras)
        made = {camera: np.zeros((128, 128), bool) for camera in cameras}
        made["wrist"][:] = True
        return made

    reading = Reading(np.zeros(3), np.array([0, 0, 0, 1.0]), np.zeros(2), success=False, objects={})
    grey = {camera: np.full((128, 128, 3), 90, np.uint8) for camera in CAMERAS}
    players, relevant = arm_players(plan, arms, model, masks), {}
    for name, player in players.items():
        player.begin(Scene("do 4", 50, [], {}, {}))
        for _ in range(2):
            player.action(reading, lambda _: grey)
        relevant[name] = player.taken().frames[-1].reused_tokens

    assert asked == [CAMERAS] * 2
    assert relevant == {"masks": 200, "off": 0}  # none of the wrist's, which is masked whole


def test_turns() -> None:
    """Another one begins each time, and after all of them the first again."""
    assert [turned(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(turned(["a", "b", "c"], 2)) == ["a", "b", "c"]
