from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from stillframe.errors import ConfigError
from stillframe_lab.libero.expert.player import ExpertPlayer
from stillframe_lab.libero.pictures import upright
from stillframe_lab.libero.process import SimulatorError, SimulatorProcess, simulator_python, start_command
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.gl]


@pytest.fixture(scope="module")
def simulator(needs_gl: None) -> Iterator[SimulatorProcess]:  # noqa: ARG001 -- for its skip
    """The real one, where `make libero` has installed it."""
    try:
        python = simulator_python()
    except ConfigError as problem:
        pytest.skip(str(problem))
    with SimulatorProcess(start_command(python)) as running:
        yield running


def test_the_simulator_does_what_was_recorded(
    simulator: SimulatorProcess, recorded: Any, recording: Mapping[str, Any]
) -> None:
    """The same start, the same fixtures, the same first picture but for JPEG; and the expert solves it again."""
    scene = simulator.open(recording["suite"], recording["task"])
    reading = simulator.reset(recording["init_state"], recording["seed"])
    for _ in range(SETTLE_STEPS):
        reading = simulator.step(SETTLE)
    then, player, steps = recorded(at=SETTLE_STEPS), ExpertPlayer(recording["suite"]), 0
    apart = simulator.pictures()["agentview"].astype(int) - then.pictures(["agentview"])["agentview"]
    settled = reading
    player.begin(scene)
    while not reading.success and steps < 150:
        reading, steps = simulator.step(player.action(reading, simulator.pictures)), steps + 1

    assert scene.versions == recording["scene"]["versions"]
    assert scene.interest == ["akita_black_bowl_1", "plate_1"]
    for name, pose in then.reading.objects.items():
        assert settled.objects[name] == pytest.approx(pose, abs=1e-4), name
    assert np.abs(apart).mean() < 2.0
    assert reading.success
    assert steps == pytest.approx(len(recording["actions"]), abs=10)


def test_masks_show_the_hand_and_what_the_task_is_about(needs_gl: None) -> None:  # noqa: ARG001 -- for its skip
    """A bowl and a plate before the robot; fast pictures alone have them."""
    try:
        python = simulator_python()
    except ConfigError as problem:
        pytest.skip(str(problem))
    with SimulatorProcess(start_command(python), draw="fast") as fast:
        fast.open("libero_spatial", 0)
        reading = fast.reset(0, 0)
        masks, pose = fast.masks(), fast.camera("agentview")
    points = np.stack([reading.objects[name][:3] for name in ("akita_black_bowl_1", "plate_1", "cookies_1")])
    bowl, plate, cookies = np.rint(pose.project(points, 128)).astype(int)
    seen = upright(masks["agentview"])

    assert seen[bowl[1], bowl[0]]
    assert seen[plate[1], plate[0]]
    assert not seen[cookies[1], cookies[0]]
    assert 0.01 < seen.mean() < 0.3
    assert masks["wrist"].any()


def test_masks_are_refused_of_other_pictures(simulator: SimulatorProcess) -> None:
    """With what to open the task with."""
    simulator.open("libero_spatial", 0)
    with pytest.raises(SimulatorError, match="open the task with draw='fast'"):
        simulator.masks()


@pytest.mark.parametrize("task", [0, 4])
def test_a_seed_places_what_initial_states_do_not_hold(simulator: SimulatorProcess, task: int) -> None:
    """The cabinet stands elsewhere with another seed, at the same place with the same, whatever came before.

    Of task 4 a drawer is open, which LIBERO draws too.
    """
    simulator.open("libero_spatial", task)
    places = [simulator.reset(0, seed).objects["wooden_cabinet_1"] for seed in (0, 7, 0)]

    assert np.array_equal(places[0], places[2])
    assert np.abs(places[0] - places[1]).max() > 1e-3
