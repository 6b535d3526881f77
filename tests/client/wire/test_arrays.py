from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.errors import UnsupportedDtype, WireError
from stillframe_client.wire import DTYPES, decode_array, decode_base64, encode_array, is_array


def test_bytes_are_json_numpys():
    """Keys, their order, dtype and shape are those of json_numpy for arange(7)."""
    text = json.dumps(encode_array(np.arange(7, dtype=np.float64)))

    assert text == (
        '{"__numpy__": "AAAAAAAAAAAAAAAAAADwPwAAAAAAAABAAAAAAAAACEAAAAAAAAAQQAAAAAAAABRAAAAAAAAAGEA=", '
        '"dtype": "<f8", "shape": [7]}'
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 3, 4, 1)])
def test_arrays_come_back(dtype, shape):
    """Each number type and rank comes back equal, of the same type, and owning its memory."""
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = decode_array(json.loads(json.dumps(encode_array(array))))

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.owndata
    assert back.flags.writeable


@given(values=st.lists(st.floats(width=64), max_size=9))
def test_floats_come_back_bit_for_bit(values):
    """NaN payloads, infinities, negative zeros: the wire changes no bit."""
    array = np.array(values, "<f8")

    assert decode_array(encode_array(array)).tobytes() == array.tobytes()


def test_views_are_sent_as_they_look():
    """Transposed and strided views are sent in C order."""
    view = np.arange(24, dtype="<i4").reshape(4, 6).T[::2]

    assert np.array_equal(decode_array(encode_array(view)), view)


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.zeros(2, ">f8"), np.zeros(2, "V0")])
def test_other_types_are_not_sent(array):
    """Objects, text, big-endian numbers and empty items do not go on this wire."""
    with pytest.raises(UnsupportedDtype, match="convert"):
        encode_array(array)


GOOD = encode_array(np.arange(6, dtype="<i4").reshape(2, 3))


@pytest.mark.parametrize("dtype", ["|O", "<U4", "|V0", "<f4,<f4", "", None, 4, ["<f4"], [["a", "|O"]], {"a": 1}])
def test_other_types_are_not_read(dtype):
    """Whatever a sender calls its type, only the listed ones are looked at."""
    with pytest.raises(UnsupportedDtype, match="expected"):
        decode_array({**GOOD, "dtype": dtype})


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 2]},
        {"shape": [-2, -3]},
        {"shape": [2.0, 3]},
        {"shape": [True, 6]},
        {"shape": [1, 1, 1, 2, 3]},
        {"shape": "23"},
        {"shape": None},
        {"shape": [1 << 62, 1 << 62]},
        {"__numpy__": None},
        {"__numpy__": GOOD["__numpy__"][:-4]},
        {"__numpy__": GOOD["__numpy__"][:-1]},
        {"__numpy__": "?" + GOOD["__numpy__"][1:]},
        {"__numpy__": "====" + GOOD["__numpy__"][4:]},
        {"__numpy__": "é" + GOOD["__numpy__"][1:]},
    ],
)
def test_arrays_that_do_not_hold(change):
    """A shape that is none, or a text of another length or alphabet, is refused."""
    with pytest.raises(WireError):
        decode_array({**GOOD, **change})


def test_the_callers_bound_is_kept():
    """An array over `max_bytes` is refused by its shape; one at the bound is read."""
    with pytest.raises(WireError, match="24 bytes; at most 23"):
        decode_array(GOOD, max_bytes=23)

    assert decode_array(GOOD, max_bytes=24).shape == (2, 3)


@pytest.mark.parametrize("value", [None, [], "text", {"dtype": "<f8", "shape": []}])
def test_what_is_no_array(value):
    """Only an object with __numpy__ means to be an array."""
    assert not is_array(value)
    with pytest.raises(WireError, match="json_numpy"):
        decode_array(value)


@given(data=st.binary(max_size=40))
def test_base64_comes_back(data):
    """Any bytes come back from padded base64."""
    import base64

    assert decode_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize("text", ["A", "AAA", "AA=A", "A===", "AAAA\n", " AAAA", "AA-_", "A A=", "====", "AA==AAAA"])
def test_base64_is_strict(text):
    """No missing padding, white space, URL alphabet, or text after the end."""
    with pytest.raises(WireError):
        decode_base64(text)
