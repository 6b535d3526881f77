from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch

from stillframe.history.gate import Gate, GateSizes, Linear, Standardizer
from stillframe.history.pooling import Pooled
from stillframe.history.scorers import AttentionMass, GateScorer, LinearScorer, Novelty, Recency, Scorer, Summaries

TAPS = (0, 2)
WIDTH = 2 * 2 * 8  # tapped layers x heads x head_dim
INPUTS = 2 * WIDTH + 8


def summaries(frames: list[Pooled]) -> Summaries:
    """Of the first chunk of each session's frame."""
    return Summaries.of(frames, 0, TAPS, torch.ones(len(frames), 8))


def opinionated(cell: Literal["gru", "lstm"] = "gru") -> Gate:
    """A gate that has left its start."""
    torch.manual_seed(5)
    gate = Gate(GateSizes(INPUTS, 16, cell))
    torch.nn.init.normal_(gate.outward.weight)
    return gate.eval()


def every_scorer() -> list[Scorer]:
    """All of them."""
    linear = Linear(INPUTS).eval()
    torch.nn.init.normal_(linear.outward.weight)
    gates = [GateScorer(opinionated("gru")), GateScorer(opinionated("lstm"))]
    return [Recency(), Novelty(), AttentionMass(), LinearScorer(linear), *gates]


def test_a_summary_is_of_the_tapped_layers_all_heads_slots_averaged(chunks: Callable[..., Pooled]) -> None:
    """In one row, layer after layer."""
    frame = chunks(1)
    made = summaries([frame])

    assert made.inputs.shape == (1, INPUTS)
    torch.testing.assert_close(made.keys[0, :16], frame.keys[0, 0].mean(1).flatten())
    torch.testing.assert_close(made.values[0, 16:], frame.values[0, 2].mean(1).flatten())


def test_each_chunk_of_a_frame_has_its_own_summary(chunks: Callable[..., Pooled]) -> None:
    """The second chunk's keys and values are those of the second; keys, then values, then what is known beside."""
    frame = chunks(1, 2)
    for chunk in (0, 1):
        made = Summaries.of([frame], chunk, TAPS, torch.full((1, 8), 7.0))
        keys, values = (part[chunk, [*TAPS]].mean(2).flatten() for part in (frame.keys, frame.values))

        torch.testing.assert_close(made.keys[0], keys)
        torch.testing.assert_close(made.values[0], values)
        torch.testing.assert_close(made.inputs[0], torch.cat((keys, values, torch.full((8,), 7.0))))


@pytest.mark.parametrize("scorer", every_scorer(), ids=lambda scorer: type(scorer).__name__)
def test_sessions_side_by_side_are_scored_as_each_alone(scorer: Scorer, chunks: Callable[..., Pooled]) -> None:
    """Utilities in [0, 1], and no session's state is another's."""
    alone, together = [[], []], []
    for robot in (0, 1):
        states = [scorer.begin()]
        for step in range(4):
            said, states = scorer.score(summaries([chunks(10 * robot + step)]), states)
            alone[robot].append(said[0])
    states = [scorer.begin(), scorer.begin()]
    for step in range(4):
        said, states = scorer.score(summaries([chunks(step), chunks(10 + step)]), states)
        together.append(said)

    np.testing.assert_allclose(np.array(together).T, alone, atol=1e-6)
    assert ((np.array(together) >= 0) & (np.array(together) <= 1)).all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_gate_looks_at_what_came_before(cell: Literal["gru", "lstm"], chunks: Callable[..., Pooled]) -> None:
    """The same chunk is worth something else the second time; a linear score cannot tell."""
    gate, linear = GateScorer(opinionated(cell)), LinearScorer(Linear(INPUTS).eval())
    first, states = gate.score(summaries([chunks(1)]), [gate.begin()])
    second, _ = gate.score(summaries([chunks(1)]), states)
    same = [linear.score(summaries([chunks(1)]), [linear.begin()])[0] for _ in (0, 1)]

    assert abs(first[0] - second[0]) > 1e-4
    assert same[0] == same[1]


def test_learnt_scorers_keep_before_they_have_learnt(chunks: Callable[..., Pooled]) -> None:
    """sigmoid(2) of whatever comes."""
    for scorer in (GateScorer(Gate(GateSizes(INPUTS))), LinearScorer(Linear(INPUTS))):
        said, _ = scorer.score(summaries([chunks(1)]), [scorer.begin()])

        np.testing.assert_allclose(said, 0.8808, atol=1e-4)


def test_learnt_scorers_see_what_differs() -> None:
    """Fitted to chunks, what all have in common is nothing, and what differs has a spread of one, within bounds."""
    chunks = torch.tensor([[100.0, 5.0, 1.0], [100.0, 7.0, 3.0], [100.0, 6.0, 2.0]])
    standard = Standardizer(3)
    standard.fit(chunks)
    seen = standard(chunks)

    assert not seen[:, 0].any()
    torch.testing.assert_close(seen[:, 1:], torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]))
    assert standard(chunks * 1e9).abs().max() <= 6


def test_novelty_is_distance_from_the_last_that_was_new(chunks: Callable[..., Pooled]) -> None:
    """All for the first, nothing for the same again, much for something else."""
    scorer = Novelty()
    first, states = scorer.score(summaries([chunks(1)]), [scorer.begin()])
    again, states = scorer.score(summaries([chunks(1)]), states)
    other, _ = scorer.score(summaries([chunks(2)]), states)

    assert first[0] == 1
    assert again[0] < 1e-6
    assert other[0] > 0.5


def test_slow_change_is_new_in_the_end() -> None:
    """Each step is too small to be new; measured from the last that was, they add up, and then it begins anew."""
    scorer, said, states = Novelty(new_from=0.02), [], [Novelty().begin()]
    for degrees in range(0, 40, 5):
        turned = torch.tensor([[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]])
        utility, states = scorer.score(Summaries(turned, turned, torch.zeros(1, 0)), states)
        said.append(utility[0])
    small, large = 1 - math.cos(math.radians(5)), 1 - math.cos(math.radians(10))
    new = 1 - math.cos(math.radians(15))

    np.testing.assert_allclose(said, [1, small, large, new, small, large, new, small], atol=1e-6)


def test_the_opposite_is_as_new_as_can_be() -> None:
    """A utility stays in [0, 1], whatever the cosine."""
    scorer, ahead = Novelty(), torch.tensor([[1.0, 0.0]])
    _, states = scorer.score(Summaries(ahead, ahead, torch.zeros(1, 0)), [scorer.begin()])
    said, _ = scorer.score(Summaries(-ahead, ahead, torch.zeros(1, 0)), states)

    assert said[0] == 1


def test_who_watches_is_told_where_answers_looked() -> None:
    """Attention mass alone asks for it; the others' utilities stay as they were."""
    assert [type(scorer) for scorer in every_scorer() if scorer.needs_attention] == [AttentionMass]


def test_attention_mass_follows_the_looks() -> None:
    """What is looked at most is worth all, what is not looked at falls; no looks at all change towards nothing."""
    scorer = AttentionMass(decay=0.5)

    np.testing.assert_allclose(scorer.updated(np.array([1.0, 1.0]), np.array([0.2, 0.0])), [1.0, 0.5])
    np.testing.assert_allclose(scorer.updated(np.array([1.0]), np.array([0.0])), [0.5])
    np.testing.assert_allclose(AttentionMass(0.75).updated(np.array([1.0]), np.array([0.0])), [0.75])
    assert scorer.updated(np.zeros(0), np.zeros(0)).shape == (0,)
