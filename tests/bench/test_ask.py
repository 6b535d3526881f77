from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stillframe.bench.ask import ask_checkpoint, ask_server, mendable
from stillframe.config import load_config
from stillframe.errors import ConfigError, StillframeError
from stillframe.local import LocalPolicy
from stillframe_client.errors import Unreachable
from stillframe_client.sim import JacoEnv, SensorNoise, gl
from stillframe_client.sim.rollout import Act, Episode, play

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel

STEPS = 12


@contextmanager
def scene() -> Iterator[JacoEnv]:
    """A short episode seen through a bad camera."""
    env = JacoEnv("pick", noise=SensorNoise(sigma=2.0, jpeg_quality=90), max_steps=STEPS)
    yield env
    env.close()


def acted(act: Act, seed: int) -> tuple[Episode, np.ndarray]:
    """One episode and its actions [steps, 7]."""
    actions: list[Any] = []

    def remember(observed: dict[str, Any]) -> Any:
        actions.append(act(observed))
        return actions[-1]

    with scene() as env:
        return play(env, remember, seed=seed), np.array(actions)


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("seed", [0, 1])
def test_both_ways_give_the_same_episode(golden_model: PolicyModel, golden_url: str, seed: int) -> None:
    """In process and over HTTP: every action equal to the bit, so the whole episode is."""
    local, local_actions = acted(LocalPolicy(golden_model), seed)
    with ask_server(golden_url) as act:
        remote, remote_actions = acted(act, seed)

    assert local_actions.dtype == remote_actions.dtype == np.float64
    assert np.array_equal(local_actions, remote_actions)
    assert (local.steps, local.success, local.instruction) == (remote.steps, remote.success, remote.instruction)
    assert len(np.unique(local_actions, axis=0)) > 1  # it looked


def test_a_checkpoint_is_asked_as_configured(golden_folder: Path, goldens: Mapping[str, Any]) -> None:
    """In this process, with the configuration's precision: on this frame bfloat16 chooses other tokens."""
    golden = goldens["f2"]
    actions = {}
    for dtype in ("float32", "bfloat16"):
        with ask_checkpoint(load_config(None, {"checkpoint": golden_folder, "dtype": dtype, "threads": 1})) as act:
            actions[dtype] = act({"images": {"front": golden.picture}, "instruction": golden.instruction})

    assert np.array_equal(actions["float32"], golden.action)
    assert not np.array_equal(actions["bfloat16"], golden.action)


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://127.0.0.1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """With the option's name and an example."""
    with pytest.raises(ConfigError, match=r"--server: url is .*; expected something like"), ask_server(url):
        pass


@pytest.mark.parametrize("cause", [Unreachable("nothing there"), gl.NoOpenGLError("no way to draw")])
def test_what_client_and_simulator_complain_of_becomes_ours(cause: Exception) -> None:
    """In the same words, so that the command line can print it in one line."""
    with pytest.raises(StillframeError, match=str(cause)) as caught, mendable():
        raise cause

    assert caught.value.__cause__ is cause


def test_a_bug_stays_a_bug() -> None:
    """Anything else keeps its type and its traceback."""
    with pytest.raises(KeyError), mendable():
        raise KeyError
