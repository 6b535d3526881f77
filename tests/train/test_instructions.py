from __future__ import annotations

from stillframe.train.instructions import INSTRUCTIONS
from stillframe_client.sim import COLOURS, Goal


def test_the_policy_learns_the_words_that_the_environment_speaks() -> None:
    """Every instruction of training is, letter for letter, what an episode of that goal says."""
    spoken = [Goal(each.task, each.colour, None).instruction for each in INSTRUCTIONS]

    assert [each.text for each in INSTRUCTIONS] == spoken
    assert len(set(spoken)) == 2 * len(COLOURS)
