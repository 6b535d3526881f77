from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from stillframe_lab.libero.expert.servo import CLOSED, OPEN
from stillframe_lab.libero.process import Pictures, Reading, Scene
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS
from stillframe_lab.train.libero.recording import AFTER_STEPS, Demonstration, Recorder, Wanderer

ALL = Recorder("libero_spatial", keep=1.0)


class Still:
    """Leads nowhere."""

    def begin(self, scene: Scene, rng: np.random.Generator) -> int:  # noqa: ARG002 (as the protocol has it)
        """No step."""
        return 0

    def action(self, reading: Reading, draw: Callable[[Sequence[str]], Pictures]) -> np.ndarray:  # noqa: ARG002 (as above)
        """Never asked."""
        raise AssertionError


class Doer(Still):
    """Leads until the bowl is where it should be."""

    def __init__(self, toy: object):
        self._toy = toy

    def begin(self, scene: Scene, rng: np.random.Generator) -> int:  # noqa: ARG002 (as the protocol has it)
        """Some steps."""
        return 5

    def action(self, reading: Reading, draw: Callable[[Sequence[str]], Pictures]) -> np.ndarray:  # noqa: ARG002
        """By a miracle."""
        self._toy.bowl = self._toy.plate  # type: ignore[attr-defined]  # the toy's
        return SETTLE


def recorded(toy: object, recorder: Recorder = ALL, seed: int = 7, noise: int = 0) -> Demonstration:
    """A success from a still start; `noise`: the seed of what is drawn."""
    scene = toy.open("libero_spatial", 0)  # type: ignore[attr-defined]  # the toy's
    found = recorder.record(toy, scene, seed, Still(), np.random.default_rng(noise))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_simulator_draws_the_start_and_settles(toy) -> None:  # type: ignore[no-untyped-def]  # conftest's
    """Never one of the fixed initial states, which are for evaluation; what hangs in the air falls first."""
    recorded(toy, seed=7)

    assert toy.asked == [(None, 7)]
    assert all(np.array_equal(action, SETTLE) for action in toy.actions[:SETTLE_STEPS])


def test_a_demonstration_goes_on_after_the_success(toy) -> None:  # type: ignore[no-untyped-def]
    """The hand opens and rests above the bowl, so that letting go is learned."""
    demo = recorded(toy)

    assert demo.actions[-AFTER_STEPS + 1 :, 6].tolist() == [OPEN] * (AFTER_STEPS - 1)
    assert CLOSED in demo.actions[:, 6]
    assert demo.points_m[-1, 0, :2] == pytest.approx(demo.points_m[-1, 1, :2], abs=0.02)


def test_noise_moves_the_hand_and_is_in_no_label(toy) -> None:  # type: ignore[no-untyped-def]
    """What is labelled is what the expert wanted; what was done differs in some episodes and not in others."""
    apart = []
    for noise in range(5, 17):
        demo = recorded(toy, noise=noise)
        done = np.array(toy.actions[SETTLE_STEPS:])
        assert done.shape == demo.actions.shape
        assert np.array_equal(done[:, 6], demo.actions[:, 6])
        assert np.abs(done[:, :3]).max() <= 1.0
        apart.append(float(np.abs(done - demo.actions).mean()))

    assert min(apart) == pytest.approx(0.0, abs=1e-6)
    assert max(apart) > 0.05


def test_what_is_known_of_a_step_is_of_before_it(toy) -> None:  # type: ignore[no-untyped-def]
    """State, picture and points are what the action answers to."""
    demo = recorded(toy)
    grey = [np.asarray(Image.open(io.BytesIO(step[0]))).mean() for step in demo.pictures]

    assert demo.states[0, :3] == pytest.approx([-0.2, 0.0, 1.17])
    assert demo.points_m[:, 2] == pytest.approx(demo.states[:, :3], abs=1e-6)
    assert grey == pytest.approx(100 + 100 * demo.states[:, 0], abs=2.0)
    assert demo.points_m[0, 0] == pytest.approx([0.1, 0.2007, 0.9], abs=1e-5)


def test_only_a_share_of_the_steps_has_pictures(toy) -> None:  # type: ignore[no-untyped-def]
    """Pictures are what costs; the labels of the steps between stay, chunks need them."""
    demo = recorded(toy, Recorder("libero_spatial", keep=0.3))

    assert len(demo.pictures) == len(demo.kept) < 0.6 * len(demo.states)
    assert np.all(np.diff(demo.kept) > 0)


def test_failures_are_no_demonstrations(toy) -> None:  # type: ignore[no-untyped-def]
    """Neither what never succeeds, nor what another has done before the expert began."""
    scene, rng = toy.open("libero_spatial", 0), np.random.default_rng(0)
    done = ALL.record(toy, scene, 1, Doer(toy), rng)
    toy.greased = True

    assert done is None
    assert Recorder("libero_spatial", keep=0.0).record(toy, scene, 1, Still(), rng) is None


def test_the_expert_takes_over_where_it_was_led(toy) -> None:  # type: ignore[no-untyped-def]
    """A random start is recorded from there on, and starts differ."""
    scene = toy.open("libero_spatial", 0)
    starts = []
    for seed in range(6):
        demo = ALL.record(toy, scene, 1, Wanderer(), np.random.default_rng(seed))
        assert demo is not None
        starts.append(demo.states[0, :3])

    assert np.ptp(starts, axis=0).min() > 0.02
