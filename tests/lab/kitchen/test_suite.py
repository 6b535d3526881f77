from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.lab.evaluation.test_evaluate import FRAME, Actor

from stillframe.errors import ConfigError
from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe_client import PolicyClient
from stillframe_client.sim.kitchen import TASKS, KitchenEnv
from stillframe_client.sim.proprioception import STATE_NAMES
from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.evaluate import Evaluation, summarise, with_execute
from stillframe_lab.evaluation.trace import Trace
from stillframe_lab.kitchen import bench
from stillframe_lab.kitchen.bench import KitchenBench
from stillframe_lab.kitchen.contract import kitchen_asking
from stillframe_lab.kitchen.simulator import KitchenSimulator
from stillframe_lab.libero.pictures import upright

Typed = Callable[..., tuple[int, str, str]]
SIM = {"jaco_sim": {"q01": [-0.02] * 6 + [0.0], "q99": [0.02] * 6 + [1.0], "mask": [True] * 6 + [False]}}
STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


def chunks(**changes: Any) -> EchoPolicy:
    """A policy that sees both cameras and the state, and says eight actions that keep the open hand where it is."""
    said: dict[str, Any] = {
        "family": "openvla-oft",
        "cameras": ("front", "wrist"),
        "chunk_horizon": 8,
        "norm_stats": SIM,
        "default_unnorm_key": None,
        "gripper": "0 = close, 1 = open",
        "state": state_info(*STATE_NAMES),
        **changes,
    }
    return EchoPolicy(policy_info(**said), actions=np.array([STILL] * 8))


@pytest.fixture
def evaluated(typed: Typed) -> Typed:
    """Type `stillframe eval --suite jaco2` with more words -> status, stdout, stderr."""
    return partial(typed, "eval", "--suite", "jaco2")


def test_the_experts_are_evaluated(evaluated: Typed, tmp_path: Path) -> None:
    """Success by task, in the words of LIBERO's document; a second command plays nothing anew."""
    file = tmp_path / "jaco2.json"
    status, out, _ = evaluated("--expert", "--episodes", 4, "--seed", 7, "--json", file)
    document = json.loads(out)
    again = json.loads(evaluated("--expert", "--episodes", 4, "--seed", 7, "--json", file)[1])

    assert status == 0
    assert (document["suite"], document["policy"], document["seed"], document["wins"]) == ("jaco2", "expert", 7, 4)
    assert [one["instruction"] for one in document["by_task"]] == [task.instruction for task in TASKS.values()]
    assert {"success_ci95", "steps_mean", "latency_ms", "failed", "warnings", "simulator"} <= document.keys()
    assert again == document


def test_a_daemon_is_asked_as_its_contract_says(
    evaluated: Typed,
    monkeypatch: pytest.MonkeyPatch,
    needs_gl: None,  # noqa: ARG001 -- for its skip
) -> None:
    """Every fourth step, as it advises, it is sent both pictures, the right way up, and the state."""
    monkeypatch.setattr(bench, "MOST_STEPS", 16)
    policy = chunks()
    with running(policy) as url:
        status, out, _ = evaluated("--server", url, "--tasks", 1, "--episodes", 1, "--distractor")
    document = json.loads(out)
    seen = policy.seen[0]
    env = KitchenEnv("place-cube", cameras=(), distractor=True)
    env.reset(seed=0)

    assert status == 0
    assert (document["wins"], document["failed"], document["distractor"]) == (0, [[1, 0]], True)
    assert (document["frames"], len(policy.seen), document["execute"]) == (4, 4, 4)
    assert seen.instruction == "place the cube in the box"
    assert np.allclose(seen.state, env.observe()["state"], atol=1e-6)
    drawn = env.render("wrist").astype(float)
    assert np.abs(seen.images["wrist"].astype(float) - drawn).mean() < 3.0
    env.close()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--expert", "--pictures", "fast"), "--pictures: the suite jaco2 has pictures of one kind"),
        (("--expert", "--tasks", "4"), "expected numbers from 0 to 3"),
        (("--expert", "--episodes", "201"), "4 tasks have 200 initial states"),
        ((), "expected one of --checkpoint, --server and --expert"),
    ],
)
def test_options_that_do_not_go_together_are_refused(evaluated: Typed, words: tuple[str, ...], complaint: str) -> None:
    """Before anything is played."""
    status, _, err = evaluated(*words)

    assert status != 0
    assert complaint in " ".join(err.split())


@pytest.mark.parametrize(
    ("changes", "execute", "complaint"),
    [
        ({"state": state_info("x", "y", "z")}, None, "reads 3 numbers of state; this arm has 7"),
        ({"cameras": ("front", "left")}, None, "at most one camera on the hand"),
        ({}, 9, "--execute is 9; a chunk of .* has 8 actions"),
        ({"norm_stats": {"a": SIM["jaco_sim"], "b": SIM["jaco_sim"]}}, None, "has no statistics called jaco_sim"),
    ],
)
def test_a_policy_that_cannot_be_asked_is_refused(changes: dict[str, Any], execute: int | None, complaint: str) -> None:
    """By its contract, before an episode."""
    with running(chunks(**changes)) as url, PolicyClient(url) as client, pytest.raises(ConfigError, match=complaint):
        kitchen_asking(client.info(), execute)


def test_the_simulator_is_one_task_at_a_time(needs_gl: None) -> None:  # noqa: ARG001 -- for its skip
    """A scene of its own things; a seed is an episode; pictures are turned as LIBERO's are."""
    with KitchenBench().simulator(draws=True) as simulator:
        with pytest.raises(RuntimeError, match="expected open"):
            simulator.reset(0, 0)
        pot, cube = simulator.open("jaco2", 0), simulator.open("jaco2", 1)
        first, second, again = (simulator.reset(0, seed) for seed in (3, 4, 3))
        picture = upright(simulator.pictures(["front"])["front"])

    assert (pot.interest, cube.interest) == (("pot",), ("cube", "box"))
    assert np.array_equal(first.objects["cube"], again.objects["cube"])
    assert not np.allclose(first.objects["cube"], second.objects["cube"])
    assert picture[-1].mean() > picture[0].mean()  # the bright table below, the dark floor behind it above


def test_expert_and_simulator_are_a_pair() -> None:
    """The expert's action is the environment's own."""
    simulator = KitchenSimulator()
    scene = simulator.open("jaco2", 3)
    reading = simulator.reset(0, 5)
    player = KitchenBench().expert(simulator, filmed=False)
    player.begin(scene)
    env = KitchenEnv("wipe-table", cameras=())
    env.reset(seed=5)

    assert np.array_equal(player.action(reading, simulator.pictures), env.expert())
    assert player.taken().frames == ()


def test_one_task_is_evaluated_by_its_name() -> None:
    """`--task place-cube` is known, an option of remember is not; no cube is the wrong one."""
    plan = Evaluation("place-cube", episodes=1, seed=0)
    played = [
        Episode(0, "place the cube in the box", success=True, wrong_object=False, steps=40, act_ms=(1.0,), wall_s=0.1)
    ]
    document = summarise(plan, played, "expert", Trace([FRAME], asked=[True]))

    assert with_execute(plan, Actor(lambda _: STILL)).execute == 1
    assert "wrong_cube" not in document
    assert document["success"] == 1.0
    with pytest.raises(ConfigError, match="place-cube has neither delay nor variant"):
        with_execute(Evaluation("place-cube", 1, 0, delay=3), Actor(lambda _: STILL))


def test_a_strip_has_a_row_for_each_task(evaluated: Typed, tmp_path: Path, needs_gl: None) -> None:  # noqa: ARG001
    """Beside the films, five pictures wide, both cameras in each."""
    films = tmp_path / "films"
    status, _, err = evaluated("--expert", "--tasks", "0", "--episodes", 1, "--video", films)

    assert status == 0, err
    assert [file.suffix for file in films.iterdir()] == [".webp"]
    with Image.open(tmp_path / "films.png") as strip:
        assert strip.width > 5 * strip.height
