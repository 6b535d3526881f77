from __future__ import annotations

import torch

from stillframe_lab.train.history.soft_retention import Kept, Room, staying

THERE = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
WORTH = torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.2, 0.3], [0.5, 0.5, 0.5, 0.1, 1.0, 1.0]])
ROOM = Room(chunks=3, window_frames=1)


def test_the_window_stays_and_what_is_worth_most() -> None:
    """The last frame whatever it is worth; of equal ones the newest; nothing where there is no frame."""
    assert staying(WORTH, THERE, ROOM).tolist() == [
        [True, False, True, False, False, True],
        [False, True, True, True, False, False],
    ]


def test_what_stays_is_trusted_by_its_worth() -> None:
    """And the window wholly, and what went not at all; ranks count what stayed."""
    expected = torch.tensor([[0.9, 0.0, 0.8, 0.0, 0.0, 1.0], [0.0, 0.5, 0.5, 1.0, 0.0, 0.0]])

    kept = Kept.of(WORTH, THERE, ROOM)
    stays = staying(WORTH, THERE, ROOM)

    torch.testing.assert_close(kept.trust, expected)
    assert kept.ranks[stays].tolist() == [0, 1, 2] * 2


def test_what_went_learns_too() -> None:
    """A gradient reaches every frame's worth but the window's, which is not asked, and that of no frame."""
    worth = WORTH.clone().requires_grad_()
    Kept.of(worth, THERE, ROOM).trust.sum().backward()  # type: ignore[no-untyped-call]  # torch's

    assert worth.grad is not None
    assert worth.grad.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
