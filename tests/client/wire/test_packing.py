from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stillframe_client.errors import UnsupportedDtype, WireError
from stillframe_client.wire import pack, unpack

EXAMPLES = settings(max_examples=2 * settings().max_examples, derandomize=True)
NUMBERS = ("|b1", "|i1", "|u1", "<i2", ">i2", "<i4", "<i8", "<u2", "<u4", "<u8", ">u8", "<f2", "<f4", ">f4", "<f8")

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
).filter(lambda value: "nd" not in str(value))  # a map that looks like an array is one
DTYPES = st.sampled_from([np.dtype(name) for name in NUMBERS])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3))


def hex_of(text: str) -> bytes:
    """Bytes from a dump in which 'words' stand in quotes."""
    parts = [part.encode() if i % 2 else bytes.fromhex(part) for i, part in enumerate(text.split('"'))]
    return b"".join(parts)


ONE_F4 = struct.pack("<f", 1.0)
F4_ARRAY = '84 c4 0b "__ndarray__" c3 c4 04 "data" {data} c4 05 "dtype" a3 "<f4" c4 05 "shape" {shape}'


@pytest.mark.parametrize(
    ("value", "dump"),
    [
        ({}, "80"),
        (
            {"actions": np.ones((1, 7), "<f4")},
            '81 a7 "actions"' + F4_ARRAY.format(data="c4 1c" + 7 * ONE_F4.hex(), shape="92 01 07"),
        ),
        (np.array(1, "<f4"), F4_ARRAY.format(data="c4 04" + ONE_F4.hex(), shape="90")),
        (np.empty(0, "<f4"), F4_ARRAY.format(data="c4 00", shape="91 00")),
        (
            np.float32(1),
            '83 c4 0d "__npgeneric__" c3 c4 04 "data" cb 3ff0000000000000 c4 05 "dtype" a3 "<f4"',
        ),
        (np.float64(1), "cb 3ff0000000000000"),
        (np.bool_(True), '83 c4 0d "__npgeneric__" c3 c4 04 "data" c3 c4 05 "dtype" a3 "|b1"'),  # noqa: FBT003 (numpy's)
        ({"prompt": "go", "a": (1, None)}, '82 a6 "prompt" a2 "go" a1 "a" 92 01 c0'),
    ],
)
def test_bytes_are_openpis(value, dump):
    """What goes out is byte for byte what openpi's own client and server write."""
    assert pack(value) == hex_of(dump)


def test_a_picture_has_a_long_length():
    """A 224 x 224 picture's bytes come behind a 32-bit length, its sides behind 16 and 8 bits."""
    picture = np.arange(224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(224, 224, 3)
    head = '84 c4 0b "__ndarray__" c3 c4 04 "data" c6 00024c00'
    tail = ' c4 05 "dtype" a3 "|u1" c4 05 "shape" 93 cc e0 cc e0 03'

    assert pack(picture) == hex_of(head) + picture.tobytes() + hex_of(tail)


@EXAMPLES
@given(value=PLAIN)
def test_values_come_back(value):
    """Whatever nests plain values comes back equal, and of the same type."""
    back = unpack(pack(value))

    assert repr(back) == repr(value)


@EXAMPLES
@given(array=ARRAYS)
def test_arrays_come_back(array):
    """Each number type, byte order and rank comes back bit for bit, and cannot be written to."""
    back = unpack(pack({"a": [array]}))["a"][0]

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert not back.flags.writeable


def test_views_are_sent_as_they_look():
    """Transposed and strided views are sent in C order."""
    view = np.arange(24, dtype="<i4").reshape(4, 6).T[::2]

    assert np.array_equal(unpack(pack(view)), view)


@pytest.mark.parametrize("scalar", [np.float32(0.5), np.float16(2), np.int8(-3), np.uint64(2**64 - 1), np.bool_(False)])  # noqa: FBT003 (numpy's)
def test_scalars_become_plain_numbers(scalar):
    """A numpy scalar is read as a plain number of its value: who reads fields expects those."""
    back = unpack(pack(scalar))

    assert type(back) is type(scalar.item())
    assert back == scalar


def test_an_array_is_no_copy():
    """An array lies over the bytes that were read: nothing is copied twice."""
    back = unpack(pack(np.arange(5000, dtype="<i8")))

    assert isinstance(back.base, bytes)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array(["a"]),
        np.array([b"a"]),
        np.zeros(2, "c8"),
        np.zeros(2, "V4"),
        np.zeros(2, [("a", "<f4")]),
        np.array(["2026-01-01"], "M8[D]"),
        np.complex64(1),
    ],
)
def test_other_types_are_not_sent(array):
    """Objects, text, structures, dates and complex numbers do not go on this wire."""
    with pytest.raises(UnsupportedDtype, match="convert"):
        pack({"a": array})


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**64, -(2**63) - 1, "\ud800", 1j])
def test_other_objects_are_not_sent(value):
    """What msgpack has no form for is refused in words of our own, without the value in them."""
    with pytest.raises(WireError, match="no form for"):
        pack([value])


def test_a_loop_is_not_sent():
    """A list that holds itself is refused, not followed."""
    loop: list = []
    loop.append(loop)

    with pytest.raises(WireError):
        pack(loop)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_read(kind):
    """Whatever holds bytes is read."""
    assert unpack(kind(pack({"a": 1}))) == {"a": 1}
