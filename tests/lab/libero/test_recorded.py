from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe_lab.libero.bench import LiberoBench
from stillframe_lab.libero.contract import state_of
from stillframe_lab.libero.episode import EpisodeRules, PlayedEpisode, Player, Simulator
from stillframe_lab.libero.expert.player import ExpertPlayer
from stillframe_lab.libero.pictures import lanczos, through_jpeg
from stillframe_lab.libero.policy import served_policy
from stillframe_lab.libero.process import CAMERAS, Reading
from stillframe_lab.libero.suites import SETTLE_STEPS, EpisodeId

Recorded = Callable[..., Any]
STATE = ("x", "y", "z", "ax", "ay", "az", "left", "right")
SPATIAL = {"libero_spatial": {"q01": [-1.0] * 6 + [0.0], "q99": [1.0] * 6 + [1.0], "mask": [True] * 6 + [False]}}
EVERY = 30  # steps: how far the recording's pictures are apart


def play(simulator: Simulator, player: Player, most_steps: int = 220) -> PlayedEpisode:
    """The recording's episode."""
    scene = simulator.open("libero_spatial", 0)
    rules = EpisodeRules(most_steps)
    return rules.play(simulator, scene, EpisodeId(0, 0), player, simulator.pictures, threading.Event())


class Scripted(EchoPolicy):
    """OpenVLA-OFT's contract, whose chunks are the recording's actions, with OpenVLA's numbers of the gripper."""

    def __init__(self, actions: np.ndarray):
        meaning = {"cameras": ("image", "wrist"), "gripper": "0 = close, 1 = open", "state": state_info(*STATE)}
        scaled = {"norm_stats": SPATIAL, "default_unnorm_key": None}
        super().__init__(policy_info(family="openvla-oft", chunk_horizon=EVERY, **meaning, **scaled))
        self.script = actions.copy()
        self.script[:, 6] = np.where(actions[:, 6] > 0, 0.004, 0.996)

    def echo(self, _: object) -> np.ndarray:
        """The next chunk; after the last action the hand stays."""
        begin = EVERY * (len(self.seen) - 1)
        still = np.array([[0, 0, 0, 0, 0, 0, 1.0]] * EVERY)
        return np.concatenate([self.script[begin : begin + EVERY], still])[:EVERY]


@contextmanager
def asked(url: str, execute: int | None = None) -> Iterator[Player]:
    """A player of the policy behind a daemon."""
    with served_policy(url, LiberoBench("libero_spatial", "full"), None, execute, None).player() as player:
        yield player


def test_the_expert_does_again_what_it_did(recorded: Recorded, recording: Mapping[str, Any]) -> None:
    """On the real simulator's poses, action for action to the end, without a picture."""
    simulator = recorded()
    played = play(simulator, ExpertPlayer("libero_spatial"))

    assert (played.success, played.steps) == (True, len(recording["actions"]))
    assert played.instruction.startswith("pick up the black bowl between the plate and the ramekin")
    assert played.versions["mujoco"] == "3.3.7"
    assert simulator.drawn == []


def test_a_policy_over_the_wire_plays_the_papers_protocol(recorded: Recorded, recording: Mapping[str, Any]) -> None:
    """Three answers of thirty actions: the simulator gets each number as it was, and the gripper turned round."""
    policy, simulator = Scripted(np.array(recording["actions"])), recorded()
    with running(policy) as url, asked(url) as player:
        played = play(simulator, player)

    assert (played.success, played.steps) == (True, len(recording["actions"]))
    assert simulator.drawn == [0, EVERY, 2 * EVERY]
    assert len(policy.seen) == len(played.frames) == 3
    assert {one.unnorm_key for one in policy.seen} == {"libero_spatial"}
    for step, seen in zip(simulator.drawn, policy.seen, strict=True):
        then = recorded(at=SETTLE_STEPS + step)
        turned = {name: picture[::-1, ::-1] for name, picture in then.pictures(CAMERAS).items()}
        assert np.array_equal(seen.images["image"], lanczos(through_jpeg(turned["agentview"]), (224, 224)))
        assert np.array_equal(seen.images["wrist"], lanczos(through_jpeg(turned["wrist"]), (224, 224)))
        assert seen.state == pytest.approx(state_of(then.reading))


def test_the_state_is_as_liberos_data_sets_have_it(recording: Mapping[str, Any]) -> None:
    """A hand over the table that points down: about half a turn about x; two fingers of opposite sign."""
    state = state_of(Reading(**recording["readings"][SETTLE_STEPS]))

    assert state[:3] == pytest.approx([-0.21, 0.0, 1.17], abs=0.03)
    assert state[3:6] == pytest.approx([np.pi, 0, 0], abs=0.15)
    assert state[6] == pytest.approx(-state[7], abs=1e-3)
    assert 0.03 < state[6] < 0.041


def test_the_scene_stands_upright(recorded: Recorded) -> None:
    """In the picture that policies see the robot is above, the table below; the wrist's fingers are at the bottom."""
    pictures = recorded(at=SETTLE_STEPS).pictures(CAMERAS)
    agent, wrist = (pictures[name][::-1, ::-1].astype(int) for name in ("agentview", "wrist"))

    above, below = agent[:60].mean(axis=(0, 1)), agent[200:].mean(axis=(0, 1))
    assert below[0] - below[2] > 20  # wood
    assert abs(above[0] - above[2]) < 15  # a grey wall
    assert wrist[-20:].mean() < 60 < wrist[:180].mean()  # the hand's own black body


def test_a_policy_of_random_weights_is_asked_over_the_wire(recorded: Recorded, golden_url: str) -> None:
    """A real daemon with a real model answers the real simulator's first picture; what it says cannot be right."""
    simulator = recorded(strict=False)
    with asked(golden_url) as player:
        played = play(simulator, player, most_steps=1)

    assert (played.success, played.steps, simulator.drawn) == (False, 1, [0])
    (frame,) = played.frames
    assert frame.keyframe_reason is not None
    assert frame.total_tokens > 256
