from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2 import rotations

NUMBER = st.floats(-10, 10, allow_subnormal=False)
VECTOR = st.tuples(NUMBER, NUMBER, NUMBER).map(np.array)
ANGLE = st.floats(-math.pi, math.pi)
TURN = st.tuples(VECTOR, st.floats(0, 3.1)).map(
    lambda made: made[0] * (made[1] / max(float(np.linalg.norm(made[0])), 1e-3)) if made[0].any() else np.zeros(3)
)
ROTATION = TURN.map(rotations.from_vector)


def matrix(quaternion):
    """The rotation's matrix, column by column."""
    return np.stack([rotations.rotate(quaternion, column) for column in np.eye(3)], axis=1)


@given(TURN)
def test_vectors_survive_the_way_there_and_back(turn):
    """A rotation vector of less than pi is the rotation's own."""
    assert np.allclose(rotations.to_vector(rotations.from_vector(turn)), turn, atol=1e-7)


@given(TURN.map(lambda turn: turn * 1e-8))
def test_small_turns_are_not_lost(turn):
    """Of nanoradians as well."""
    assert np.allclose(rotations.to_vector(rotations.from_vector(turn)), turn, rtol=1e-6, atol=1e-16)


@given(ROTATION, ROTATION, VECTOR)
def test_a_product_turns_by_the_right_one_first(left, right, vector):
    """multiply(a, b) then rotate is rotate by b, then by a; its length is one."""
    product = rotations.multiply(left, right)
    assert math.isclose(float(np.linalg.norm(product)), 1.0, rel_tol=1e-12)
    once = rotations.rotate(product, vector)
    assert np.allclose(once, rotations.rotate(left, rotations.rotate(right, vector)), atol=1e-9)


@given(ROTATION, VECTOR)
def test_the_inverse_turns_back_and_lengths_stay(rotation, vector):
    """A rotation is rigid and can be undone."""
    turned = rotations.rotate(rotation, vector)
    assert math.isclose(float(np.linalg.norm(turned)), float(np.linalg.norm(vector)), rel_tol=1e-9, abs_tol=1e-9)
    assert np.allclose(rotations.rotate(rotations.inverse(rotation), turned), vector, atol=1e-9)


@given(st.tuples(ANGLE, ANGLE, ANGLE).map(np.array))
def test_euler_angles_turn_about_fixed_axes_in_turn(angles):
    """As the product of three matrices written out."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    assert np.allclose(matrix(rotations.from_euler_xyz(angles)), about_z @ about_y @ about_x, atol=1e-9)


@given(ROTATION, ROTATION, st.floats(0, 1))
def test_the_turn_between_two_leads_from_one_to_the_other(start, end, share):
    """All of it ends there; a share of it is that share of the angle."""
    turn = rotations.turn_between(start, end)
    reached = rotations.multiply(rotations.from_vector(turn), start)
    assert abs(float(reached @ end)) > 1 - 1e-9
    part = rotations.turn_between(start, rotations.turned_towards(start, end, share))
    assert math.isclose(float(np.linalg.norm(part)), share * float(np.linalg.norm(turn)), abs_tol=1e-6)


@given(ANGLE)
def test_about_z_is_the_rotation_vector_of_z(angle):
    """Both ways of writing it agree."""
    assert np.allclose(matrix(rotations.about_z(angle)), matrix(rotations.from_vector(np.array([0, 0, angle]))))


@pytest.mark.parametrize("bad", [[0.0] * 4, [math.nan, 0, 0, 1], [math.inf, 0, 0, 1]], ids=["zero", "nan", "inf"])
def test_what_is_no_rotation_is_refused(bad):
    """Zero and what is not finite have no direction; the error says what was expected."""
    with pytest.raises(ValueError, match="expected a length of about 1"):
        rotations.normalised(np.array(bad))


def test_one_rotation_has_one_quaternion():
    """Of q and -q the one with w from 0 is kept."""
    assert rotations.normalised(np.array([0.0, 0.6, 0.0, -0.8])).tolist() == [0.0, -0.6, 0.0, 0.8]
