from __future__ import annotations

import torch

from stillframe_lab.train.chunked.branches import BranchLayout, drawn_branches
from stillframe_lab.train.recipe import INSTRUCTIONS

GOALS = torch.tensor([[0, 3, 1], [5, 4, 2]])  # a reach of one's own, a pick of one's own


def test_a_branch_sees_the_prefix_and_itself_both_ways() -> None:
    """The prefix sees no branch, and no branch another; positions go on behind the prefix in each."""
    layout = BranchLayout.of(2, [1, 2])
    expected = [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 1],
        [1, 1, 0, 1, 1],
    ]

    assert layout.mask.int().tolist() == expected
    assert layout.positions.tolist() == [0, 1, 2, 2, 3]
    assert layout.stops == [3, 5]


def test_one_branch_is_of_one_task_for_the_whole_batch() -> None:
    """Over many batches both tasks and all labels come up, and no frame is asked what it is not labelled for."""
    generator, chosen = torch.Generator().manual_seed(1), set()
    for _ in range(60):
        drawn = drawn_branches(GOALS, generator, 1)
        tasks = {INSTRUCTIONS[int(row[at])].task for row, at in zip(GOALS, drawn.branch, strict=True)}
        chosen |= {(frame, int(at)) for frame, at in enumerate(drawn.branch)}

        assert len(tasks) == 1
        assert drawn.counts.tolist() == [[1.0], [1.0]]
    assert chosen == {(frame, label) for frame in range(2) for label in range(3)}


def test_three_branches_are_a_pick_a_reach_and_another_pick_where_there_is_one() -> None:
    """A frame with one pick has it twice, of which the second does not count."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        drawn = drawn_branches(GOALS, generator, 3)
        tasks = [
            [INSTRUCTIONS[int(row[at])].task for at in asked] for row, asked in zip(GOALS, drawn.branch, strict=True)
        ]

        assert tasks == [["pick", "reach", "pick"]] * 2
        assert drawn.counts.tolist() == [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
        assert len(set(drawn.branch[1].tolist())) == 3
