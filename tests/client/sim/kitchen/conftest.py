"""The kitchen's environments: one of each task for all tests of a module.

Knows no test; every test begins with its own reset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stillframe_client.sim.kitchen import KitchenEnv


@pytest.fixture(scope="module")
def kitchen() -> Iterator[Callable[[str], KitchenEnv]]:
    """By task: an environment that draws nothing."""
    made: dict[str, KitchenEnv] = {}

    def of(task: str) -> KitchenEnv:
        if task not in made:
            made[task] = KitchenEnv(task, cameras=())
        return made[task]

    yield of
    for env in made.values():
        env.close()
