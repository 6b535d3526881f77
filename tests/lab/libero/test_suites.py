from __future__ import annotations

import pytest

from stillframe.errors import ConfigError
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS, episodes_of, most_steps, task_numbers


def test_episodes_are_spread_over_tasks_and_take_initial_states_in_order() -> None:
    """Seven over three tasks: two of each, three of the first; task by task, for a task opens slowly."""
    played = [(one.task, one.init_state) for one in episodes_of((2, 5, 7), 7)]

    assert played == [(2, 0), (2, 1), (2, 2), (5, 0), (5, 1), (7, 0), (7, 1)]


def test_the_papers_play_every_state_of_every_task() -> None:
    """500 episodes, ten no-ops with the hand open before each, and a limit for each suite."""
    whole = episodes_of(task_numbers(None), 500)
    limits = [most_steps(f"libero_{suite}") for suite in ("spatial", "object", "goal", "10")]

    assert len({*whole}) == 500
    assert {one.init_state for one in whole} == {*range(50)}
    assert limits == [220, 280, 300, 520]
    assert (SETTLE_STEPS, SETTLE.tolist()) == (10, [0, 0, 0, 0, 0, 0, -1])


@pytest.mark.parametrize("episodes", [0, 101])
def test_more_episodes_than_states_are_refused(episodes: int) -> None:
    """A state is never played twice and called two episodes."""
    with pytest.raises(ConfigError, match=f"--episodes {episodes}: 2 tasks have 100 initial states"):
        episodes_of((0, 1), episodes)


@pytest.mark.parametrize("text", ["", "a", "0,10", "-1", "1.5"])
def test_what_names_no_task_is_refused(text: str) -> None:
    """Numbers from 0 to 9 with commas."""
    with pytest.raises(ConfigError, match="numbers from 0 to 9"):
        task_numbers(text)


def test_a_task_that_is_named_twice_is_played_once() -> None:
    """In the order they are named."""
    assert task_numbers("3,1,3") == (3, 1)


def test_another_suite_is_refused_by_name() -> None:
    """The message lists what there is."""
    with pytest.raises(ConfigError, match="--suite libero_90: expected one of libero_spatial, "):
        most_steps("libero_90")
