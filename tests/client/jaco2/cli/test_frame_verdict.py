from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.cli.frame_verdict import verdict
from stillframe_client.jaco2.cli.nudge import Nudge
from stillframe_client.jaco2.domain import ToolPose

Vector = NDArray[np.float64]
Follows = Callable[[Vector, Vector], Vector]  # what was told, the orientation -> what is done in that frame
TILTED = rotations.from_vector(np.array([0.9, -0.5, 0.4]))
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
angles = st.floats(-3, 3)
orientations = st.builds(lambda x, y, z: rotations.from_vector(np.array([x, y, z])), angles, angles, angles)


def shifts(follows: Follows, orientation: Vector = TILTED, told: float = 0.02) -> list[Nudge]:
    """Nudges along the base's axes by an arm that follows like this, in the base frame."""
    before = ToolPose(np.array([0.1, -0.4, 0.3]), orientation)
    return [
        Nudge(
            is_turn=False,
            axis=axis,
            told=told,
            before=before,
            after=ToolPose(before.position_m + 0.8 * follows(told * unit, orientation), orientation),
        )
        for axis, unit in enumerate(np.eye(3))
    ]


def turns(follows: Follows, orientation: Vector = TILTED, told: float = 0.15) -> list[Nudge]:
    """Nudges about the tool's axes by an arm that follows like this, in the tool's frame."""
    before = ToolPose(np.zeros(3), orientation)
    after = [
        rotations.multiply(orientation, rotations.from_vector(0.8 * follows(told * unit, orientation)))
        for unit in np.eye(3)
    ]
    return [
        Nudge(is_turn=True, axis=axis, told=told, before=before, after=ToolPose(np.zeros(3), end))
        for axis, end in enumerate(after)
    ]


def as_told(told: Vector, orientation: Vector) -> Vector:  # noqa: ARG001 -- all follow alike
    return told


def as_tools(told: Vector, orientation: Vector) -> Vector:
    """Told in the base frame, done in the tool's; seen in the base frame."""
    return rotations.rotate(orientation, told)


def as_bases(told: Vector, orientation: Vector) -> Vector:
    """Told in the tool's frame, done in the base's; seen in the tool's frame."""
    return rotations.rotate(rotations.inverse(orientation), told)


def noisy(follows: Follows, seed: int) -> Follows:
    """With a tenth of what was told as an error, as a real arm has."""
    random = np.random.default_rng(seed)

    def follow(told: Vector, orientation: Vector) -> Vector:
        error = random.normal(size=3)
        return follows(told, orientation) + 0.1 * np.linalg.norm(told) * error / np.linalg.norm(error)

    return follow


def angle_to_base(orientation: Vector) -> float:
    """How far the tool's axes are from the base's."""
    return float(np.linalg.norm(rotations.to_vector(orientation)))


@given(orientations, st.integers(0, 1000), st.booleans())
def test_an_arm_that_follows_fits(orientation: Vector, seed: int, backwards: bool) -> None:  # noqa: FBT001
    """Whatever way the hand is held, nudged to either side, with an error of a tenth."""
    assume(angle_to_base(orientation) > 0.8)
    sign = -1 if backwards else 1

    assert verdict(shifts(noisy(as_told, seed), orientation, sign * 0.02)).fits
    assert verdict(turns(noisy(as_told, seed), orientation, sign * 0.15)).fits


@given(orientations, st.integers(0, 1000))
def test_turns_in_the_base_frame_are_seen(orientation: Vector, seed: int) -> None:
    """Not taken for the tool's, and what to set is said."""
    assume(angle_to_base(orientation) > 0.9)

    said = verdict(turns(noisy(as_bases, seed), orientation))

    assert not said.fits
    assert "in the BASE frame" in said.text
    assert 'set arm.angular_frame = "base"' in said.text


def test_turns_that_were_set_the_wrong_way_are_seen() -> None:
    """Set to base for an arm that takes the tool's frame: commands arrive turned, and the way back is said."""
    said = verdict(turns(as_tools), "base")

    assert not said.fits
    assert 'set arm.angular_frame = "tool"' in said.text


def test_what_looks_the_same_is_said_to() -> None:
    """With the hand straight down, base frame and two swapped signs cannot be told apart: both are named."""
    said = verdict(turns(as_bases, DOWN))

    assert "in the BASE frame (or +y goes to -y, +z goes to -z" in said.text


def test_a_hand_along_the_base_shows_no_frame() -> None:
    """Where the tool's axes are the base's, turns in either frame look alike: that is no pass."""
    said = verdict(turns(as_told, np.array([0.0, 0.0, 0.0, 1.0])))

    assert not said.fits
    assert "turn the hand by 45" in said.text


def test_shifts_in_the_tools_frame_are_seen() -> None:
    """They would leave the box: no setting mends that."""
    said = verdict(shifts(as_tools))

    assert not said.fits
    assert "TOOL's frame" in said.text
    assert "do not run" in said.text


@pytest.mark.parametrize("make", [shifts, turns], ids=["shifts", "turns"])
def test_swapped_axes_and_signs_are_named(make: Callable[[Follows], list[Nudge]]) -> None:
    """An arm that turns x to y, y to -x, and one whose z is the other way round."""
    turned = verdict(make(lambda told, _: np.array([-told[1], told[0], told[2]])))
    mirrored = verdict(make(lambda told, _: told * np.array([1, 1, -1])))

    assert not turned.fits
    assert "+x goes to +y, +y goes to -x" in turned.text
    assert not mirrored.fits
    assert "swapped, +z goes to -z; do not run" in mirrored.text


def test_a_base_that_is_turned_is_measured() -> None:
    """By 45 degrees about z: the angle is named, without advice to set a yaw that the limits do not know of."""
    said = verdict(shifts(lambda told, _: rotations.rotate(rotations.about_z(np.pi / 4), told)))

    assert not said.fits
    assert "turned by 45 degrees about z" in said.text


def test_what_fits_no_frame_is_said() -> None:
    """Axes that all go the same way."""
    assert "fit no frame" in verdict(shifts(lambda told, _: np.full(3, told.sum()))).text
    assert "fit no frame" in verdict(turns(lambda told, _: np.full(3, told.sum()))).text


@pytest.mark.parametrize("make", [shifts, turns], ids=["shifts", "turns"])
def test_an_axis_that_does_not_move_is_named(make: Callable[[Follows], list[Nudge]]) -> None:
    """A singularity has no other sign."""
    said = verdict(make(lambda told, _: told * np.array([1, 0, 1])))

    assert not said.fits
    assert "did not follow" in said.text
    assert "+y:" in said.text
    assert "+x" not in said.text


def test_a_nudge_says_what_moved() -> None:
    """Told and measured in millimetres and radians, with the share that was made."""
    assert shifts(as_told)[0].line() == (
        "shift +x  told 20.0 mm   measured x +16.0  y +0.0  z +0.0 mm in the base frame, 80 %"
    )
    assert "turn -y   told 0.150 rad measured" in turns(as_told, told=-0.15)[1].line()
    assert "y -0.120" in turns(as_told, told=-0.15)[1].line()
