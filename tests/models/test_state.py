from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.state import StateReader, StateScale, state_scales

ENDS = ("q01", "q99")
STATS = {"a": {"proprio": {"q01": [-1.0, 0.0, -2.0], "q99": [1.0, 4.0, 2.0], "mask": [True, True, False]}}}


def reader(**more: StateScale) -> StateReader:
    """Three numbers: two lengths, and a finger that passes through."""
    return StateReader(("x", "y", "finger"), ("m", "m", ""), state_scales(STATS, 3, ENDS) | more)


def test_a_state_is_scaled_and_clipped() -> None:
    """Ends become -1 and 1, what lies beyond is clipped, and so is what is not scaled."""
    found = reader().read(np.array([0.0, 3.0, -0.5]), "a")

    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [0, 0.5, -0.5], rtol=0, atol=1e-8)
    np.testing.assert_allclose(reader().read(np.array([-9.0, 9.0, 7.0]), "a"), [-1, 1, 1], rtol=0, atol=1e-8)


def test_each_data_set_has_its_own_scale() -> None:
    """By the key that the frame resolved to."""
    wide = StateScale(np.full(3, -10.0), np.full(3, 10.0), np.ones(3, np.bool_))

    np.testing.assert_allclose(reader(b=wide).read(np.array([5.0, 0.0, 0.0]), "b"), [0.5, 0, 0], rtol=0, atol=1e-8)


def test_a_number_that_never_changed_is_one_end_or_the_middle_of_nothing() -> None:
    """As in the reference: its range is 1e-8 wide, and no division fails."""
    scale = StateScale(np.array([2.0]), np.array([2.0]), np.ones(1, np.bool_))

    assert scale.normalise(np.array([2.0])).tolist() == [-1]
    assert scale.normalise(np.array([2.1])).tolist() == [1]
    assert scale.normalise(np.array([1e300])).tolist() == [1]


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (None, "missing-state", "has none; send 3 numbers: x [m], y [m], finger"),
        (np.zeros(2), "wrong-state", "the state is 2 numbers; this policy reads 3 numbers: x [m], y [m], finger"),
        (np.zeros(0), "wrong-state", "the state is 0 numbers"),
        (np.zeros((1, 3)), "wrong-state", "the state is an array of shape (1, 3)"),
        (np.array(0.0), "wrong-state", "the state is an array of shape ()"),
        (np.array(["a", "b", "c"]), "wrong-state", "an array of shape (3,) of 'str"),
        (np.zeros(3, np.bool_), "wrong-state", "of 'bool'"),
    ],
)
def test_a_state_of_another_shape_is_refused(state: Any, code: str, said: str) -> None:
    """What came, and what each of the numbers that are expected is."""
    with pytest.raises(Unprocessable) as caught:
        reader().read(state, "a")

    assert (caught.value.code, caught.value.pointer) == (code, "/state")
    assert said in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_named(number: float) -> None:
    """Where it is, and what it should be."""
    with pytest.raises(Unprocessable, match=rf"number 1 of the state, y, is {number}; expected 3 numbers") as caught:
        reader().read(np.array([0.0, number, 0.0]), "a")

    assert (caught.value.code, caught.value.pointer) == ("wrong-state", "/state/1")


def test_whole_numbers_are_numbers() -> None:
    """Of any width, and float32."""
    for kind in (np.int8, np.uint32, np.float32):
        np.testing.assert_allclose(reader().read(np.array([1, 4, 1], kind), "a"), [1, 1, 1], rtol=0, atol=1e-8)


def test_the_contract_names_every_number() -> None:
    """Name, unit and the statistics that scale it, as JSON has them."""
    info = reader().info

    assert (info.names, info.units) == (("x", "y", "finger"), ("m", "m", ""))
    assert json.loads(json.dumps(info.norm_stats)) == {
        "a": {"low": [-1, 0, -2], "high": [1, 4, 2], "mask": [True, True, False]}
    }


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"action": {}}, "have no 'proprio', but the policy reads a state of 3 numbers"),
        ({"proprio": {"q01": [0.0] * 2, "q99": [1.0] * 2}}, "have 2, 2 and 2 numbers; the state's projector takes 3"),
        ({"proprio": {"q01": [0.0] * 3, "q99": [1.0] * 2}}, "have 3, 2 and 3 numbers"),
        ({"proprio": {"q01": [0.0] * 3}}, "expected proprio.q01 and proprio.q99, lists of numbers"),
        ({"proprio": {"q01": [0.0, 2.0, 0.0], "q99": [1.0] * 3}}, "number 1 of the state has q01 2.0 above q99 1.0"),
        ({"proprio": {"q01": [0.0] * 3, "q99": [1.0] * 3, "mask": [1, 1, 1]}}, "mask is [1, 1, 1]"),
        ({"proprio": {"q01": [0.0] * 3, "q99": [1.0, True, 1.0]}}, "q99 of dimension 1 is True"),
        ([], "have no 'proprio'"),
    ],
)
def test_statistics_that_scale_no_state(entry: Any, said: str) -> None:
    """Named at load, with the data set."""
    with pytest.raises(CheckpointError) as caught:
        state_scales({"robot": entry}, 3, ENDS)

    assert "'robot'" in str(caught.value)
    assert said in str(caught.value)
