"""Environments shared by the tests of the simulated arm: building a scene takes longer than most tests.

Knows no test; every test begins with its own reset.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stillframe_client.sim import JacoEnv


@pytest.fixture(scope="module")
def blind() -> Iterator[JacoEnv]:
    """An environment that draws nothing."""
    env = JacoEnv("pick", hz=10, cameras=())
    yield env
    env.close()


@pytest.fixture(scope="module")
def seeing(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """An environment with both cameras."""
    env = JacoEnv("pick", hz=10, cameras=("front", "wrist"))
    yield env
    env.close()
