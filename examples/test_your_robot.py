"""A robot's program tested without a checkpoint and without torch: pytest test_your_robot.py."""

from __future__ import annotations

import numpy as np

from stillframe.errors import Overloaded
from stillframe.testing import EchoPolicy, running
from stillframe_client import PolicyClient, PolicyError

PICTURE = np.full((48, 64, 3), 7, np.uint8)


def drive(url: str, steps: int) -> list[np.ndarray]:
    """What a robot's program does; it stands still while there is no action. Yours goes here."""
    moves = []
    with PolicyClient(url, timeout_s=5.0) as policy:
        policy.reset()
        for _ in range(steps):
            try:
                moves.append(policy.act(PICTURE, "go"))
            except PolicyError:
                moves.append(np.zeros(7))
    return moves


def test_it_sends_what_its_camera_saw():
    """The policy echoes: height, width, the first pixel, letters of the instruction, pictures."""
    with running(EchoPolicy()) as url:
        moves = drive(url, steps=2)

    assert [move.tolist() for move in moves] == [[48, 64, 7, 7, 7, 2, 1]] * 2


def test_it_stands_still_while_the_daemon_is_busy():
    """A problem is no action."""
    with running(EchoPolicy(error=Overloaded("overloaded", "Too many frames wait."))) as url:
        moves = drive(url, steps=2)

    assert not np.any(moves)
