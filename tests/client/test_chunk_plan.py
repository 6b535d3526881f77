"""The plan alone: what is due of which chunk, and what it is where several chunks speak of a step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe_client.chunk_plan import BLENDS, CHUNKS, ChunkPlan, due_index

DIM = 3
# Per chunk: its actions, how many of them are past as it comes, how many are played of it, how many skipped before.
CHUNK = st.tuples(st.integers(1, 12), st.integers(0, 14), st.integers(0, 12), st.integers(0, 2))
CHUNKS_GIVEN = st.lists(CHUNK, min_size=1, max_size=20)
NUMBERS = st.floats(-1e3, 1e3)


class Story:
    """Plays chunks of random actions through a plan, and keeps, for each step, what they said of it."""

    def __init__(self, blend: str, chunks: list[tuple[int, int, int, int]], seed: int = 0):
        rng = np.random.default_rng(seed)
        self.plan, self.step = ChunkPlan(blend), 0
        self.said: dict[int, list[np.ndarray]] = {}  # step -> actions [DIM], the oldest chunk's first
        self.played: list[tuple[int, np.ndarray]] = []  # step, action
        for horizon, due, steps, skip in chunks:
            self.take(rng.normal(size=(horizon, DIM)), due)
            self.play(steps, skip)

    def take(self, actions: np.ndarray, due: int) -> None:
        """A chunk arrives, so many of whose actions are past."""
        self.plan.take(actions, due)
        for index, action in enumerate(actions):
            self.said.setdefault(self.step - due + index, []).append(action)

    def play(self, steps: int, skip: int = 0) -> None:
        """The robot leaves out some steps, and plays some."""
        self.plan.skip_to(self.plan.index + skip)
        self.step += skip
        for _ in range(steps):
            action = self.plan.next()
            if action is not None:
                self.played.append((self.step, action))
                self.step += 1


@given(chunks=CHUNKS_GIVEN, skips=st.lists(st.integers(-3, 20), max_size=5))
def test_never_twice_and_never_out_of_order(chunks: list[tuple[int, int, int, int]], skips: list[int]) -> None:
    """Whatever is taken and skipped, an action comes once, after those before it in its chunk and of older ones."""
    plan, order = ChunkPlan(), []
    for number, (horizon, due, steps, _) in enumerate(chunks):
        plan.take(np.array([[number, index] for index in range(horizon)], float), due)
        for step in range(steps):
            plan.skip_to(skips[step] if step < len(skips) else 0)
            action = plan.next()
            if action is not None:
                order.append(tuple(action))

    assert order == sorted(set(order))


@given(blend=st.sampled_from(BLENDS), chunks=CHUNKS_GIVEN, seed=st.integers(0, 99))
def test_a_blend_is_within_what_the_chunks_said(blend: str, chunks: list[tuple[int, int, int, int]], seed: int) -> None:
    """Number by number, each action lies between the lowest and the highest that was said of its step."""
    story = Story(blend, chunks, seed)

    for step, action in story.played:
        assert (np.min(story.said[step], axis=0) <= action).all()
        assert (action <= np.max(story.said[step], axis=0)).all()


@given(chunks=CHUNKS_GIVEN, blend=st.sampled_from(BLENDS))
def test_a_step_has_as_many_actions_however_they_are_blended(
    chunks: list[tuple[int, int, int, int]], blend: str
) -> None:
    """A blend changes numbers, never which steps there are."""
    assert [step for step, _ in Story(blend, chunks).played] == [step for step, _ in Story("none", chunks).played]


@given(old=st.integers(2, 12), new=st.integers(2, 12), played=st.integers(0, 12), due=st.integers(0, 12))
def test_linear_goes_from_one_to_the_other(old: int, new: int, played: int, due: int) -> None:
    """Over the steps that both reach, each step is one share nearer to the new chunk; then it is the new chunk's."""
    rng = np.random.default_rng(old * 1000 + new * 50 + played + due)
    before, after = rng.normal(size=(old, DIM)), rng.normal(size=(new, DIM))
    plan = ChunkPlan("linear")
    plan.take(before, 0)
    for _ in range(played):
        plan.next()
    planned = before[min(played, old) :]
    plan.take(after, due)
    blended = [plan.next() for _ in range(max(new - due, 0))]
    overlap = min(len(planned), len(blended))

    for at, action in enumerate(blended):
        share = min((at + 1) / (overlap + 1), 1.0) if at < overlap else 1.0
        expected = after[due + at] if share == 1.0 else (1 - share) * planned[at] + share * after[due + at]
        np.testing.assert_allclose(action, expected, atol=1e-12)


@given(old=NUMBERS, new=NUMBERS, overlap=st.integers(1, 15))
def test_linear_has_no_seam(old: float, new: float, overlap: int) -> None:
    """From chunks that each say one thing, no step is further from the last than an equal share of the difference."""
    plan = ChunkPlan("linear")
    plan.take(np.full((overlap + 1, DIM), old), 0)
    actions = [plan.next()]
    plan.take(np.full((overlap + 2, DIM), new), 1)
    actions += [plan.next() for _ in range(overlap + 1)]

    largest = max(np.abs(after - before).max() for before, after in itertools.pairwise(actions))
    assert largest <= abs(new - old) / (overlap + 1) + 1e-9
    assert actions[0][0] == old
    assert actions[-1][0] == new


@pytest.mark.parametrize("horizon", [2, 8, CHUNKS])
def test_adaptive_is_the_daemons_ensemble(horizon: int) -> None:
    """A chunk at each step, of which one action is played: what the daemon's own ensemble answers."""
    rng = np.random.default_rng(horizon)
    plan, ensemble = ChunkPlan("adaptive"), AdaptiveEnsemble(horizon)
    for step in range(3 * horizon):
        chunk = rng.normal(size=(horizon, 7))
        plan.take(chunk, 0)

        np.testing.assert_allclose(plan.next(), ensemble.add(step, chunk), atol=1e-12)


@given(chunks=CHUNKS_GIVEN)
def test_adaptive_of_chunks_that_agree_is_what_they_say(chunks: list[tuple[int, int, int, int]]) -> None:
    """Chunks that say the same of each step are aligned by it, however late each came: nothing is changed."""
    plan, step = ChunkPlan("adaptive"), 0
    for horizon, due, steps, _ in chunks:
        plan.take(np.sin(np.arange(step - due, step - due + horizon))[:, None] + 2.0, due)
        for _ in range(steps):
            action = plan.next()
            if action is not None:
                assert action[0] == pytest.approx(np.sin(step) + 2.0, abs=1e-12)
                step += 1


@pytest.mark.parametrize("blend", BLENDS)
def test_a_single_action_is_the_newest_word(blend: str) -> None:
    """Policies of one action a frame are played as ever."""
    plan = ChunkPlan(blend)
    for value in (1.0, 2.0, 3.0):
        plan.take(np.full((1, DIM), value), 0)
    action = plan.next()

    assert action is not None
    assert action.tolist() == [3.0] * DIM
    assert plan.next() is None


@pytest.mark.parametrize("blend", BLENDS)
def test_the_chunks_themselves_stay_as_they_are(blend: str) -> None:
    """A blend is a copy: what was answered may be kept or logged."""
    chunks = [np.full((4, DIM), value) for value in (1.0, 2.0)]
    plan = ChunkPlan(blend)
    for chunk in chunks:
        plan.take(chunk, 0)

    assert [np.unique(chunk).tolist() for chunk in chunks] == [[1.0], [2.0]]


@pytest.mark.parametrize("blend", BLENDS)
def test_a_chunk_that_comes_too_late_leaves_nothing(blend: str) -> None:
    """Where all of its actions are past, what was planned before is past as well."""
    plan = ChunkPlan(blend)
    plan.take(np.zeros((4, DIM)), 0)
    plan.take(np.ones((4, DIM)), 4)

    assert plan.left == 0
    assert plan.next() is None


@given(played=st.integers(0, 50), elapsed_s=st.floats(-10, 10), grace=st.integers(0, 1))
def test_the_action_that_is_due(played: int, elapsed_s: float, grace: int) -> None:
    """Never one that was played, never one whose time is over, and with grace one less."""
    due = due_index(played, elapsed_s, 0.1, grace)

    assert due >= played
    assert due > elapsed_s / 0.1 - 1 - grace
    assert due in (played, int(np.floor(elapsed_s / 0.1)) - grace)


def test_another_blend_is_refused() -> None:
    """There are three."""
    with pytest.raises(ValueError, match="blend is 'cubic'; expected one of none, linear, adaptive"):
        ChunkPlan("cubic")
