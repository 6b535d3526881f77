from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from stillframe.domain import ActionChunk, KeyframeReason, SessionRef
from stillframe.engine.answers import ChunkAnswers
from stillframe.engine.drift import Caution
from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe.engine.session_state import ScheduledFrame, SessionState
from stillframe.errors import ConfigError
from stillframe.testing import policy_info

ROBOT = SessionRef("robot-1")


def frame_of(session: SessionState | None) -> ScheduledFrame:
    """A frame that has a session, or none; nothing else of it is looked at."""
    frame = ScheduledFrame.__new__(ScheduledFrame)
    frame.session = session
    return frame


def session() -> SessionState:
    """One that has just begun."""
    return SessionState(ROBOT, Caution(0.1), KeyframeReason.FIRST_FRAME)


def chunk(first: float, horizon: int = 4) -> ActionChunk:
    """Seven numbers an action, each action 1 more than the last."""
    return ActionChunk(first + np.arange(horizon)[:, None] + np.zeros((horizon, 7)), "data")


def test_a_chunk_is_answered_whole() -> None:
    """Without an ensemble nothing changes, the contract neither."""
    info, made = replace(policy_info(), chunk_horizon=4), chunk(1.0)

    assert ChunkAnswers().answer(frame_of(session()), made) is made
    assert ChunkAnswers().info(info) is info


@pytest.mark.parametrize(
    ("answers", "drift"),
    [
        (ChunkAnswers(), 0.9),
        (ChunkAnswers(execute=2), 0.3),
        (ChunkAnswers(execute=4), 0.9),
        (ChunkAnswers(ensemble=3, execute=1), 0.9),
    ],
)
def test_drift_counts_where_it_is_played(answers: ChunkAnswers, drift: float) -> None:
    """The worst of the actions that a robot is advised to play; of all in an ensemble, where each has its say later."""
    assert answers.drift((0.1, 0.3, 0.2, 0.9)) == drift


def test_an_ensemble_answers_one_action() -> None:
    """What the last chunks said of this step; the contract says one action a frame."""
    answers, robot = ChunkAnswers(ensemble=2), session()
    first = answers.answer(frame_of(robot), chunk(1.0))
    robot.ref = replace(ROBOT, seq=1)
    second = answers.answer(frame_of(robot), chunk(1.0))
    robot.ref = replace(ROBOT, seq=2)
    third = answers.answer(frame_of(robot), chunk(3.0))

    assert answers.info(replace(policy_info(), chunk_horizon=4)).chunk_horizon == 1
    assert_allclose(first.actions, np.full((1, 7), 1.0))
    assert_allclose(second.actions, np.full((1, 7), 1.5), atol=1e-6)  # halves of 1 and 2
    assert_allclose(third.actions, np.full((1, 7), 2.5), atol=1e-6)


def test_frames_that_were_superseded_count_as_steps() -> None:
    """The chunk before says of this step what it said of the third after its own."""
    ensemble = AdaptiveEnsemble(4)
    ensemble.add(5, chunk(0.0).actions)

    assert_allclose(ensemble.add(8, chunk(5.0).actions), np.full(7, 4.0), atol=1e-6)  # halves of 5 and 3


def test_a_stateless_frame_has_no_past() -> None:
    """Of its chunk the first action."""
    assert_allclose(ChunkAnswers(ensemble=3).answer(frame_of(None), chunk(2.0)).actions, np.full((1, 7), 2.0))


def test_what_a_robot_is_advised_to_play() -> None:
    """The contract says it: half of a chunk, or as the deployment has it."""
    info = replace(policy_info(), chunk_horizon=8)

    assert [ChunkAnswers(execute=said).info(info).replan_after for said in (0, 1, 8)] == [4, 1, 8]
    assert ChunkAnswers(ensemble=4).info(info).replan_after == 1
    assert policy_info().replan_after == 1


@pytest.mark.parametrize(("ensemble", "most", "why"), [(0, 8, ":"), (4, 1, ", as decoding.ensemble has it:")])
def test_more_than_there_is_cannot_be_played(ensemble: int, most: int, why: str) -> None:
    """A deployment that advises so is told as it starts."""
    info = replace(policy_info(), chunk_horizon=8)
    words = f"decoding.execute is 9; echo answers {most} actions at once{why} expected 0 to {most}"

    with pytest.raises(ConfigError, match=words):
        ChunkAnswers(ensemble, execute=9).info(info)


def test_an_ensemble_of_none_is_refused() -> None:
    """One chunk is the newest alone."""
    assert_allclose(AdaptiveEnsemble(1).add(0, chunk(1.0).actions), np.full(7, 1.0))
    with pytest.raises(ValueError, match="ensemble of 0 chunks"):
        AdaptiveEnsemble(0)


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(1, 3), st.integers(1, 16)), min_size=1, max_size=12))
def test_an_action_lies_among_what_was_said(most: int, frames: list[tuple[int, int]]) -> None:
    """Whatever the gaps between frames and the lengths of chunks, no number is beyond what some chunk said."""
    rng, ensemble = np.random.default_rng(len(frames)), AdaptiveEnsemble(most)
    seqs = np.cumsum([gap for gap, _ in frames])
    chunks = [rng.normal(size=(length, 7)) for _, length in frames]
    for now, seq in enumerate(seqs):
        action = ensemble.add(int(seq), chunks[now])
        ages = [(int(seq - seqs[at]), chunks[at]) for at in range(now + 1)]
        said = np.stack([old[age] for age, old in ages if age < min(len(old), most)])
        assert (action >= said.min(axis=0) - 1e-9).all()
        assert (action <= said.max(axis=0) + 1e-9).all()
