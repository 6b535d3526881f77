from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from rich.console import Console

from stillframe.errors import ConfigError, StillframeError
from stillframe.tools.charts import captioned
from stillframe_client.errors import Unreachable
from stillframe_client.replies import ActionReply, StateSpec
from stillframe_client.sim import COLOURS, TASKS
from stillframe_client.sim.rollout import Episode
from stillframe_lab.cli.demo import _served
from stillframe_lab.demo import run
from stillframe_lab.demo.report import DemoRecord, episode_table, rate_hz, row_of, summary, write_report
from stillframe_lab.demo.run import FILMED, NEEDED, PLAN, run_demo

if TYPE_CHECKING:
    from rich.console import RenderableType


CARD = {"name": "jaco-tiny", "device": "cpu", "dtype": "float32", "parameters": 7}


@pytest.fixture
def record() -> DemoRecord:
    """Three episodes: done, wrong cube, timed out."""
    made = DemoRecord()
    for seed, (success, wrong) in enumerate([(True, False), (False, True), (False, False)]):
        act_ms = tuple(20.0 + step for step in range(5))
        episode = Episode(seed, "pick up the red cube", success, wrong, len(act_ms), act_ms, wall_s=2.0)
        stages_ms = [{"receive": 1.0, "prefill": 15.0, "total": 16.0 + step} for step in range(5)]
        made.add(episode, [True] * 5, stages_ms)
        made.films.append([captioned(np.full((32, 32, 3), 40 * step, np.uint8), "red") for step in range(5)])
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
        table.add_row(*row_of(number, 3, episode, record.asked[number]))
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
    """A JSON with every episode and what served it, an animation of the films, a chart."""
    write_report(tmp_path, record, CARD, control_hz=10)
    document = json.loads((tmp_path / "report.json").read_text())
    with Image.open(tmp_path / "demo.gif") as animation, Image.open(tmp_path / "latency.png") as chart:
        assert len(list(ImageSequence.Iterator(animation))) == 15
        assert chart.format == "PNG"

    assert (document["model"], document["device"], document["dtype"]) == ("jaco-tiny", "cpu", "float32")
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
    monkeypatch.setattr("stillframe_lab.demo.report.latency_chart", lambda _f, _ms, stages, _t: drawn.append(stages))
    write_report(tmp_path, record, CARD, control_hz=10)

    assert drawn == [{"receive": 1.0, "prefill": 15.0, "wire": 6.0}]


@dataclass
class Stub:
    """Stands where the demo takes scene and client from: episodes of two steps, a daemon that says it took no time."""

    answer_s: float = 0.0  # by the clock that the demo reads
    failure: Exception | None = None
    now_s: float = 0.0
    steps: int = 0
    resets: int = 0
    closed: int = 0
    cameras: tuple[str, ...] = ("front",)
    state: StateSpec | None = None
    horizon: int = 1
    execute: int = 1
    sent: list[Any] = field(default_factory=list)  # pictures and state of each frame
    built: dict[str, Any] = field(default_factory=dict)  # what the scene was built with

    def info(self) -> Stub:
        """The contract, as far as the demo reads it."""
        return self

    def __call__(self, **options: Any) -> Stub:
        """Build the scene."""
        self.built = options
        return self

    def reset(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode, of the scene or of the client's session."""
        self.steps, self.resets = 0, self.resets + 1
        return self.observed, {}

    def step(self, _: object) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """The second step succeeds, or the last of two chunks."""
        self.steps += 1
        over = self.steps == 2 * self.execute
        info = {"success": over, "wrong_object": False, "steps": self.steps, "colour": "red", "first_direction": None}
        return self.observed, 0.0, over, False, info

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    @property
    def observed(self) -> dict[str, Any]:
        """Dark pictures, and a state."""
        dark = np.zeros((32, 32, 3), np.uint8)
        return {"images": {"front": dark, "wrist": dark + 1}, "instruction": "wait", "state": np.arange(7.0)}

    def act_with_report(self, pictures: Any, _: str, *, state: Any) -> ActionReply:
        """Answer, or fail."""
        self.sent.append((pictures, state))
        if self.failure is not None:
            raise self.failure
        self.now_s += self.answer_s
        return ActionReply(np.zeros((self.horizon, 7)), {"prefill": 0.0, "total": 0.0}, late=False, request_id=None)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The demo's scene, client and clock."""
    made = Stub()
    monkeypatch.setattr(run, "JacoEnv", made)
    monkeypatch.setattr(run, "perf_counter", lambda: made.now_s)
    return made


def said_live(stub: Stub) -> list[str]:
    """What the first episode's steps put on the terminal."""
    lines: list[str] = []
    run._play_one(run.DemoPolicy(stub), stub, 0, {}, DemoRecord(), lines.append)  # type: ignore[arg-type] # stands in
    return lines


def test_the_live_line_counts_end_to_end(stub: Stub) -> None:
    """Milliseconds and rate are those of the whole question, not what the daemon says of itself."""
    stub.answer_s = 0.05

    assert [line.partition("step ")[2] for line in said_live(stub)] == ["1, 50 ms, 20 Hz", "2, 50 ms, 20 Hz"]


def test_an_answer_in_no_time_divides_nothing(stub: Stub) -> None:
    """A clock too coarse to see the answer does not end the demo."""
    assert said_live(stub)[0].endswith("0 ms, inf Hz")
    assert rate_hz(40.0) == 25.0


def test_a_policy_gets_what_its_contract_names(stub: Stub) -> None:
    """Both cameras under its names and the state, once for so many actions as it advises; else a picture alone."""
    run._play_all(stub, Console(file=io.StringIO()))  # type: ignore[arg-type] # stands in
    (picture, nothing), alone = stub.sent[0], len(stub.sent)
    stub.sent.clear()
    stub.cameras, stub.horizon, stub.execute = ("hand_camera", "image"), 8, 3
    stub.state = StateSpec(("tool_x",), ("m",))
    record = run._play_all(stub, Console(file=io.StringIO()))  # type: ignore[arg-type] # stands in
    pictures, state = stub.sent[0]

    assert (picture.shape, nothing, alone) == ((32, 32, 3), None, 2 * len(PLAN))
    assert stub.built["cameras"] == ("wrist", "front")
    assert {name: int(own.max()) for name, own in pictures.items()} == {"hand_camera": 1, "image": 0}
    assert state.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert record.asked == [[True, False, False] * 2] * len(PLAN)
    assert len(stub.sent) == len(record.stages_ms) == len(record.answers_ms) == 2 * len(PLAN)


@pytest.mark.parametrize(
    ("config", "checkpoint", "served"),
    [
        (None, None, ["configs/jaco-tiny.yaml"]),
        (Path("a.yaml"), None, ["a.yaml"]),
        (Path("a.yaml"), Path("b"), ["a.yaml", "--checkpoint", "b"]),
        (None, Path("b"), ["--checkpoint", "b"]),
    ],
)
def test_a_checkpoint_is_served_with_its_own_configuration(
    config: Path | None, checkpoint: Path | None, served: list[str]
) -> None:
    """Or with the one that is named, or with none."""
    assert _served(config, checkpoint) == served


def test_each_episode_is_one_of_the_daemons_too(stub: Stub) -> None:
    """Scene and session begin together: nothing of one instruction's frames is reused for the next."""
    run._play_all(stub, Console(file=io.StringIO()))  # type: ignore[arg-type] # stands in

    assert stub.resets == 2 * len(PLAN)


def test_only_what_is_shown_is_filmed(stub: Stub) -> None:
    """Ten episodes are played and closed behind, and the pictures of two are kept."""
    record = run._play_all(stub, Console(file=io.StringIO()))  # type: ignore[arg-type] # stands in

    assert len(record.episodes) == len(PLAN)
    assert [len(film) for film in record.films] == [2] * len(FILMED)
    assert stub.closed == 1


def test_the_scene_is_closed_when_the_daemon_fails(stub: Stub) -> None:
    """The error passes through, and no OpenGL context is left behind."""
    stub.failure = Unreachable("nothing there")

    with pytest.raises(Unreachable):
        run._play_all(stub, Console(file=io.StringIO()))  # type: ignore[arg-type] # stands in
    assert stub.closed == 1


def test_a_report_that_has_no_place_is_said_before_playing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three minutes of episodes are not lost to a wrong --out: no daemon is even started."""

    def never(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(run, "daemon", never)
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"cannot make .*file/out: .*; choose another --out"):
        run_demo(["configs/jaco-tiny.yaml"], tmp_path / "file" / "out", Console(file=io.StringIO()))


def test_the_report_has_its_place_before_the_daemon_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is there while the episodes are played."""

    def fail(*_: object) -> None:
        raise StillframeError("no daemon")

    monkeypatch.setattr(run, "daemon", fail)

    with pytest.raises(StillframeError, match="no daemon"):
        run_demo(["configs/jaco-tiny.yaml"], tmp_path / "out", Console(file=io.StringIO()))
    assert (tmp_path / "out").is_dir()
