from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stillframe.errors import BadRequest, RequestError, Unprocessable
from stillframe.testing import state_info
from stillframe.web.http.msgpack_values import UnsupportedValue
from stillframe.web.http.parsing import parse_json, parse_msgpack
from stillframe.web.http.robot_state import expected_state, missing_state, read_state
from stillframe.web.http.state_numbers import state_numbers
from stillframe_client.wire import MAX_STATE_NUMBERS, encode_array, pack

NAMES = ("x", "y", "grip/per")
READS = state_info(*NAMES, unit="m")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
DTYPES = ("<i4", "<i8", "<f2", "<f4", "<f8")
SOME_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def refusal(value: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read_state(value, READS)
    return caught.value


@given(numbers=st.lists(FINITE, min_size=3, max_size=3), order=st.permutations(NAMES))
def test_a_list_and_a_mapping_in_any_order_are_one_state(numbers: list[float], order: list[str]) -> None:
    """In the policy's order, to the bit, over JSON and msgpack alike."""
    named = {name: numbers[NAMES.index(name)] for name in order}
    for sent in (numbers, [numbers], named, np.array(numbers), np.array([numbers]), {"x": [numbers[0]], **named}):
        read = read_state(sent, READS)
        assert (read.dtype, read.shape) == (np.float64, (3,))
        assert read.tobytes() == np.array(numbers, np.float64).tobytes()
    over_json = parse_json(json.dumps({"state": named}), 100)["state"]
    over_msgpack = parse_msgpack(pack({"state": named}), 100)["state"]
    assert read_state(over_json, READS).tolist() == read_state(over_msgpack, READS).tolist() == numbers


@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(
            dtype, 3, elements=hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
        )
    )
)
def test_an_array_of_any_dtype_keeps_its_numbers(array: np.ndarray) -> None:
    """Raw, as json_numpy, and as C++ clients write that."""
    plain = encode_array(array)
    cpp = {"__ndarray__": plain["__numpy__"], "dtype": plain["dtype"], "shape": plain["shape"]}

    for sent in (array, array.astype(array.dtype.newbyteorder(">")), plain, cpp):
        assert read_state(sent, READS).tolist() == array.astype(np.float64).tolist()


@pytest.mark.parametrize("number", [2.5, 7, np.array(2.5), np.array([2.5]), [2.5]], ids=repr)
def test_one_number_may_stand_alone(number: object) -> None:
    """As a gripper's often does; by its name too."""
    reads = state_info("opening")

    assert read_state(number, reads).tolist() == read_state({"opening": number}, reads).tolist()
    assert len(state_numbers(number, "/state")) == 1


@given(value=SOME_VALUE)
def test_anything_else_is_refused_or_is_three_finite_numbers(value: object) -> None:
    """No value raises anything but a problem."""
    with contextlib.suppress(Unprocessable, BadRequest):
        read = read_state(value, READS)
        assert (read.shape, read.dtype) == ((3,), np.float64)
        assert np.isfinite(read).all()


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ([1.0, 2.0], "/state", "has 2 numbers; this policy reads 3 numbers: x [m], y [m], grip/per [m]"),
        ([1.0] * 4, "/state", "has 4 numbers"),
        ([], "/state", "has 0 numbers"),
        ([1.0] * 65, "/state", "has 65 numbers; at most 64"),
        (np.zeros(10_000), "/state", "has 10000 numbers; at most 64"),
        ([1.0, float("nan"), 0.0], "/state/1", "Number 1 of the state is nan; expected finite"),
        (np.array([0, 0, -np.inf]), "/state/2", "is -inf"),
        ([1, 10**400, 0], "/state/1", "is inf; expected finite"),
        ([1.0, True, 0.0], "/state/1", "is a truth value; expected a number"),
        ([1.0, "0.5", 0.0], "/state/1", "is text"),
        ([1.0, None, 0.0], "/state/1", "is null"),
        ([[1.0], [2.0], [3.0]], "/state/0", "is a list"),
        ("0.1 0.2 0.3", "/state", "is text; expected a list or an array"),
        (b"\0" * 24, "/state", "is bytes"),
        (True, "/state", "is a truth value"),
        (7, "/state", "has 1 number;"),
        (np.array([True, False, True]), "/state", "an array of bool"),
        (np.zeros((3, 1)), "/state", "shape is (3, 1); expected (numbers,), or (1, numbers)"),
        (UnsupportedValue("dtype is '<U4'."), "/state", "cannot be read: dtype is '<U4'"),
        ({"x": 1.0, "y": 2.0}, "/state", "lacks 'grip/per'"),
        ({"x": 1.0, "y": 2.0, "grip_per": 0.0}, "/state", "has unknown names 'grip_per', and lacks 'grip/per'"),
        ({"x": 1.0, "y": 2.0, "grip_per": 0.0}, "/state", "Did you mean 'grip/per'?"),
        ({"x": 1.0, "y": 2.0, "grip/per": 0.0, "z": 3.0}, "/state", "has unknown names 'z'; this policy reads"),
        ({"x": 1.0, "y": 2.0, "grip/per": "open"}, "/state/grip~1per", "is text"),
        ({"x": 1.0, "y": 2.0, "grip/per": float("nan")}, "/state/grip~1per", "'grip/per' of the state is nan"),
        ({"x": 1.0, "y": [2.0, 3.0], "grip/per": 0.0}, "/state/y", "'y' of the state is 2 numbers; expected one"),
        ({str(at): 0.0 for at in range(65)}, "/state", "has 65 numbers; at most 64"),
        ({"__numpy__": "", "dtype": "|O", "shape": [0]}, "/state", "dtype is '|O'"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wrong_state_is_told_with_what_is_read(value: object, pointer: str, words: str) -> None:
    """Where it is wrong, what was found and what the policy reads."""
    error = refusal(value)

    assert isinstance(error, Unprocessable)
    assert (error.code, error.pointer) == ("wrong-state", pointer)
    assert words in error.detail


@pytest.mark.parametrize(
    "spoil",
    [{"__numpy__": "AAAA"}, {"__numpy__": 7}, {"shape": [10**9]}, {"shape": None}, {"shape": [65]}],
    ids=str,
)
def test_an_array_that_is_none_is_refused_before_it_is_built(spoil: dict[str, object]) -> None:
    """Its size is judged before its bytes."""
    error = refusal({**encode_array(np.zeros(3)), **spoil})

    assert isinstance(error, BadRequest)
    assert (error.code, error.pointer) == ("bad-codec", "/state")


def test_the_longest_state_is_read() -> None:
    """And what it was expected to be is not listed without end."""
    names = [f"q{at}" for at in range(MAX_STATE_NUMBERS)]
    reads = state_info(*names, unit="")

    assert (
        read_state(np.arange(64.0), reads).tolist()
        == read_state(dict(zip(names, range(64), strict=True)), reads).tolist()
    )
    assert expected_state(reads).endswith("q14, q15 and 48 more")
    assert missing_state(reads).pointer == "/state"
    assert "send 'state', 64 numbers: q0, q1" in missing_state(reads).detail
