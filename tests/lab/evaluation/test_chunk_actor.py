from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe.testing import EchoPolicy, policy_info, running
from stillframe_client.sim.rollout import Episode
from stillframe_lab.evaluation.actors import open_server_actor
from stillframe_lab.evaluation.chunk_actor import ChunkActor, asked_ms
from stillframe_lab.evaluation.trace import AnsweredFrame, Trace

SEEN: Mapping[str, Any] = {"images": {"front": np.zeros((8, 8, 3), np.uint8)}, "instruction": "wait"}


class Counting:
    """Answers [answer, index] in chunks, and counts its rests and episodes."""

    cameras = ("front",)

    def __init__(self, horizon: int = 4):
        self.trace, self.answers, self.episodes = Trace(), 0, 0
        self.rested: list[int | None] = []  # of how many actions
        self.seen: list[Mapping[str, Any]] = []
        self.horizon = self.execute = horizon

    @property
    def chunk(self) -> NDArray[np.float64]:
        """The last answer."""
        return np.array([[self.answers, index] for index in range(self.horizon)], float)

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The next answer's first action."""
        self.seen.append(observed)
        self.trace.frames.append(AnsweredFrame("off", "off", 0.0, 0, 1, {}))
        self.answers += 1
        first: NDArray[np.float64] = self.chunk[0]
        return first

    def reset(self) -> None:
        """Count."""
        self.episodes += 1

    def rest(self, executed: int | None = None) -> None:
        """Remember it."""
        self.rested.append(executed)


def played(actor: ChunkActor, steps: int) -> list[list[float]]:
    """So many steps, each with its pause."""
    actions = []
    for _ in range(steps):
        actions.append(actor(SEEN).tolist())
        actor.rest()
    return actions


@pytest.mark.parametrize(("execute", "of_each"), [(1, 1), (3, 3), (9, 4)])
def test_so_many_of_each_chunk(execute: int, of_each: int) -> None:
    """Or as many as it has; the policy is asked, and rests, once for them, and is told how many they are."""
    counting = Counting()
    actor = ChunkActor(counting, execute)

    assert played(actor, 2 * of_each) == [[answer, index] for answer in (1, 2) for index in range(of_each)]
    assert counting.answers == 2
    assert counting.rested == [execute, execute]
    assert counting.trace.asked == [True, *[False] * (of_each - 1)] * 2


def test_an_episode_begins_with_a_new_chunk() -> None:
    """What was left of the last one's is not played."""
    counting = Counting()
    actor = ChunkActor(counting, 4)
    played(actor, 2)
    actor.reset()

    assert played(actor, 1) == [[2, 0]]
    assert counting.episodes == 1


def test_a_warm_up_asks_each_time_and_leaves_nothing() -> None:
    """The second answer is not taken out of the first one's chunk, and the first episode begins with an answer."""
    counting = Counting()
    actor = ChunkActor(counting, 4)
    actor.warm_up(SEEN, answers=2)

    assert (counting.answers, counting.rested) == (2, [4, 4])
    assert counting.trace == Trace()
    assert played(actor, 1) == [[3, 0]]


def test_a_policy_gets_pictures_under_its_own_names() -> None:
    """And everything else of an observation as it is."""
    counting = Counting()
    front, wrist = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)
    actor = ChunkActor(counting, 1, {"image": "front", "hand": "wrist"})
    actor({"images": {"wrist": wrist, "front": front}, "instruction": "wait", "state": 7})
    (seen,) = counting.seen

    assert [*seen["images"]] == ["image", "hand"]
    assert seen["images"]["image"] is front
    assert seen["images"]["hand"] is wrist
    assert (seen["instruction"], seen["state"]) == ("wait", 7)


def test_latencies_are_those_of_answers() -> None:
    """Steps that came out of a chunk took no time; a trace of other steps is an error."""
    episodes = [Episode(0, "x", success=True, wrong_object=False, steps=2, act_ms=(9.0, 0.1), wall_s=1.0)] * 2

    assert asked_ms(episodes, Trace(asked=[True, False, True, False])) == [9.0, 9.0]
    with pytest.raises(ValueError, match="zip"):
        asked_ms(episodes, Trace(asked=[True, False, True]))


def test_nothing_is_no_part_of_a_chunk() -> None:
    """One action at least is played."""
    with pytest.raises(ValueError, match="execute is 0; expected one action or more"):
        ChunkActor(Counting(), 0)


def test_a_daemons_chunks() -> None:
    """All of each answer is there, though pictures are sent raw."""
    actions = np.random.default_rng(3).normal(size=(8, 7))
    policy = EchoPolicy(policy_info(chunk_horizon=8, execute=5), actions=actions)
    with running(policy) as url, open_server_actor(url) as server:
        taken = played(ChunkActor(server, server.execute), 10)

        assert (server.horizon, server.execute) == (8, 5)

    assert np.array_equal(taken, [*actions[:5], *actions[:5]])
    assert len(policy.seen) == 2
