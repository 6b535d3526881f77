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
from stillframe_lab.evaluation.trace import Trace

SEEN: Mapping[str, Any] = {"images": {"front": np.zeros((8, 8, 3), np.uint8)}, "instruction": "wait"}


class Counting:
    """Answers [answer, index] in chunks, and counts its rests and episodes."""

    cameras = ("front",)

    def __init__(self, horizon: int = 4):
        self.trace, self.answers, self.rests, self.episodes = Trace(), 0, 0, 0
        self.horizon = horizon

    @property
    def chunk(self) -> NDArray[np.float64]:
        """The last answer."""
        return np.array([[self.answers, index] for index in range(self.horizon)], float)

    def __call__(self, _: Mapping[str, Any]) -> NDArray[np.float64]:
        """The next answer's first action."""
        self.answers += 1
        first: NDArray[np.float64] = self.chunk[0]
        return first

    def reset(self) -> None:
        """Count."""
        self.episodes += 1

    def rest(self) -> None:
        """Count."""
        self.rests += 1


def played(actor: ChunkActor, steps: int) -> list[list[float]]:
    """So many steps, each with its pause."""
    actions = []
    for _ in range(steps):
        actions.append(actor(SEEN).tolist())
        actor.rest()
    return actions


@pytest.mark.parametrize(("execute", "of_each"), [(1, 1), (3, 3), (9, 4)])
def test_so_many_of_each_chunk(execute: int, of_each: int) -> None:
    """Or as many as it has; the policy is asked, and rests, once for them."""
    counting = Counting()
    actor = ChunkActor(counting, execute)

    assert played(actor, 2 * of_each) == [[answer, index] for answer in (1, 2) for index in range(of_each)]
    assert counting.rests == counting.answers == 2
    assert actor.asked == [True, *[False] * (of_each - 1)] * 2


def test_an_episode_begins_with_a_new_chunk() -> None:
    """What was left of the last one's is not played."""
    counting = Counting()
    actor = ChunkActor(counting, 4)
    played(actor, 2)
    actor.reset()

    assert played(actor, 1) == [[2, 0]]
    assert counting.episodes == 1


def test_latencies_are_those_of_answers() -> None:
    """Steps that came out of a chunk took no time; the warm-up is not of the episodes."""
    episodes = [Episode(0, "x", success=True, wrong_object=False, steps=2, act_ms=(9.0, 0.0), wall_s=1.0)] * 2

    assert asked_ms(episodes, [True, False, True, False, True, False]) == [9.0, 9.0]


def test_nothing_is_no_part_of_a_chunk() -> None:
    """One action at least is played."""
    with pytest.raises(ValueError, match="execute is 0; expected one action or more"):
        ChunkActor(Counting(), 0)


def test_a_daemons_chunks() -> None:
    """All of each answer is there, though pictures are sent raw."""
    actions = np.random.default_rng(3).normal(size=(8, 7))
    policy = EchoPolicy(policy_info(chunk_horizon=8), actions=actions)
    with running(policy) as url, open_server_actor(url) as server:
        taken = played(ChunkActor(server, 5), 10)

    assert np.array_equal(taken, [*actions[:5], *actions[:5]])
    assert len(policy.seen) == 2
