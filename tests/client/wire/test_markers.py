from __future__ import annotations

import io

import numpy as np
import pytest

from stillframe_client.errors import UnsupportedDtype, WireError
from stillframe_client.wire import PackLimits, pack, unpack

VALUES = np.arange(6, dtype="<f4").reshape(2, 3)


def npy(array, version=None):
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def openpi(array, **changes):
    """Openpi's map, with text for keys."""
    form = {"__ndarray__": True, "data": array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape)}
    return {**form, **changes}


def lebedov(array, **changes):
    """msgpack-numpy's map."""
    form = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": list(array.shape), b"data": array.tobytes()}
    return {**form, **{name.encode(): value for name, value in changes.items()}}


def read(value):
    """What a map means once it has gone over the wire."""
    return unpack(pack(value))


FORMS = {
    "openpi, keys of text": openpi(VALUES),
    "openpi, keys of bytes": {name.encode(): value for name, value in openpi(VALUES).items()},
    "openpi, dtype of bytes": openpi(VALUES, dtype=b"<f4"),
    "lebedov": lebedov(VALUES),
    "lebedov, keys of text": {name.decode(): value for name, value in lebedov(VALUES).items()},
    "lebedov, type of bytes": lebedov(VALUES, type=b"<f4", kind=""),
    "npy": {"__ndarray_class__": True, "as_npy": npy(VALUES)},
    "npy, version 2": {"__ndarray_class__": True, "as_npy": npy(VALUES, (2, 0))},
    "npy, version 3": {"__ndarray_class__": True, "as_npy": npy(VALUES, (3, 0))},
    "npy, columns first": {"__ndarray_class__": True, "as_npy": npy(np.asfortranarray(VALUES))},
    "raw image": {"__image__": True, "format": "raw", "data": VALUES.tobytes(), "dtype": "<f4", "shape": [2, 3]},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_is_an_array(form):
    """Each family's form becomes the same array, read-only, laid over the bytes."""
    array = read(form)

    assert array.dtype == VALUES.dtype
    assert array.tolist() == VALUES.tolist()
    assert not array.flags.writeable
    assert not array.flags.owndata


def test_msgpack_numpys_bytes_are_read():
    """The recorded bytes of msgpack-numpy for float32 (2,) are that array."""
    data = b"\x85\xc4\x02nd\xc3\xc4\x04type\xa3<f4\xc4\x04kind\xc4\x00\xc4\x05shape\x91\x02\xc4\x04data\xc4\x08"

    assert unpack(data + np.array([1, 2], "<f4").tobytes()).tolist() == [1.0, 2.0]


def test_gr00ts_bytes_are_read():
    """The recorded form of GR00T N1.5 is an array: text for keys, an .npy file of version 1.0."""
    file = npy(VALUES)
    data = b"\x82\xb1__ndarray_class__\xc3\xa6as_npy\xc4" + bytes([len(file)]) + file

    assert file.startswith(b"\x93NUMPY\x01\x00")
    assert unpack(data).tolist() == VALUES.tolist()


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 0, 3), (2, 1, 1, 1, 1, 1, 1, 2)])
@pytest.mark.parametrize("dtype", ["|b1", "|u1", ">i2", "<i8", "<f2", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_comes_back(shape, dtype, order):
    """Whatever of plain numbers numpy.save writes is read as numpy.load reads it, ranks and orders alike."""
    array = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape), dtype, order=order)
    back = read({"__ndarray_class__": True, "as_npy": npy(array)})

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


@pytest.mark.parametrize("name", ["<b1", ">u1", "<i1"])
def test_an_order_of_one_byte_says_nothing(name):
    """A single byte may be said to be in either order."""
    assert read(openpi(np.ones(3, "|u1"), dtype=name)).tolist() == [1, 1, 1]


def test_scalars_of_msgpack_numpy_are_numbers():
    """msgpack-numpy's scalar, bytes of one item, is a plain number."""
    value = read({b"nd": False, b"type": "<f4", b"data": np.float32(0.5).tobytes()})

    assert (type(value), value) == (float, 0.5)


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_pictures_stay_as_they_are(form):
    """A JPEG or PNG of vla-evaluation-harness is its bytes; nothing is decoded here."""
    assert read({"__image__": True, "format": form, "data": b"\xff\xd8...", "shape": [8, 8, 3]}) == b"\xff\xd8..."


@pytest.mark.parametrize(
    "value", [{"nd": 1, "type": "x", "data": 2}, {"nd": True, "type": "<f4"}, {"data": b"", "shape": []}]
)
def test_other_maps_stay_maps(value):
    """A map that only looks like an array here and there stays what it is."""
    assert read(value) == value


NOT_PLAIN = ["|O", "O", "|V4", "<U4", "|S4", "<c8", "<M8[s]", "<f16", "<f4,<f4", [["a", "|O"]], {"a": 1}]
NO_NAMES = [
    "|f8",
    "=f4",
    "f4",
    "float32",
    "",
    "(2,)f4",
    "|b8",
    "<b2",
    "<<",
    "<f4\n",
    "<f4 ",
    None,
    4,
    True,
    b"\xff\xff",
]


@pytest.mark.parametrize("dtype", [*NOT_PLAIN, *NO_NAMES])
@pytest.mark.parametrize(("form", "name"), [(openpi, "dtype"), (lebedov, "type")])
def test_other_types_are_not_read(form, name, dtype):
    """Plain numbers by their exact names, nothing that numpy might make of a word."""
    with pytest.raises(UnsupportedDtype, match="expected plain numbers"):
        read(form(VALUES, **{name: dtype}))


@pytest.mark.parametrize("kind", [b"O", b"V", "O", "S", b"x", 0, None])
def test_other_kinds_are_not_read(kind):
    """msgpack-numpy unpickles kind 'O'; here any kind but the empty one is refused."""
    with pytest.raises(UnsupportedDtype, match="kind"):
        read(lebedov(VALUES, kind=kind))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 2]},
        {"shape": [2, 4]},
        {"shape": [-2, -3]},
        {"shape": [-1, 3]},
        {"shape": [6, 1, 1, 1, 1, 1, 1, 1, 1]},
        {"shape": [2.0, 3]},
        {"shape": [True, 6]},
        {"shape": 6},
        {"shape": "23"},
        {"shape": None},
        {"shape": [2**63, 2**63]},
        {"shape": [0, 2**63]},
        {"shape": []},
        {"data": None},
        {"data": "text" * 6},
        {"data": [0] * 24},
        {"data": VALUES},
        {"data": VALUES.tobytes()[:-1]},
        {"data": b""},
    ],
)
@pytest.mark.parametrize("form", [openpi, lebedov])
def test_arrays_that_do_not_hold(form, change):
    """A shape that is none, or bytes of another length, is refused before anything is laid over them."""
    with pytest.raises(WireError):
        read(form(VALUES, **change))


@pytest.mark.parametrize("name", ["data", "dtype", "shape"])
def test_arrays_that_lack_something(name):
    """A map that says it is an array has to hold all of one."""
    form = openpi(VALUES)
    del form[name]

    with pytest.raises(WireError):
        read(form)


HEADER = npy(VALUES)


@pytest.mark.parametrize(
    "file",
    [
        None,
        "text",
        b"",
        b"\x93NUMPY",
        HEADER[:20],
        HEADER[:-1],
        HEADER + b"\x00",
        b"\x93NUMPX" + HEADER[6:],
        b"\x93NUMPY\x04\x00" + HEADER[8:],
        HEADER.replace(b"'<f4'", b"'|O' "),
        HEADER.replace(b"(2, 3)", b"(3, 3)"),
        HEADER.replace(b"(2, 3)", b"(-2,3)"),
        HEADER.replace(b"(2, 3)", b"2 + 40"),
        HEADER.replace(b"False", b"exit "),
        HEADER.replace(b"{'descr'", b"{('esc'"),
        HEADER.replace(b"\n", b" "),
        HEADER.replace(b"}  ", b"}\n "),
        HEADER[:8] + b"\xff\xff" + b" " * 70_000,
        HEADER[:8] + b"\x40\x02" + HEADER[10:-25] + b" " * 458 + HEADER[-25:],  # 576 bytes
    ],
    ids=range(19),
)
def test_files_that_do_not_hold(file):
    """An .npy file is read only if numpy could have written it for plain numbers; its header is never evaluated."""
    with pytest.raises(WireError):
        read({"__ndarray_class__": True, "as_npy": file})


def test_objects_in_a_file_are_not_unpickled():
    """An .npy file of objects is refused for its type; what it holds is not looked at."""
    with pytest.raises(WireError):
        read({"__ndarray_class__": True, "as_npy": npy(np.array([{"a": 1}]))})


@pytest.mark.parametrize("value", ["0.5", None, b"\x00", [0.5], True])
def test_scalars_that_do_not_hold(value):
    """A scalar that is no number of its kind is refused."""
    with pytest.raises(WireError, match="scalar"):
        read({b"__npgeneric__": True, b"data": value, b"dtype": "<f4"})


def test_pictures_without_bytes():
    """An __image__ without bytes is refused."""
    with pytest.raises(WireError, match="no bytes"):
        read({"__image__": True, "format": "png", "data": "text"})


def test_the_callers_bound_is_kept():
    """An array over max_array_bytes is refused by its shape; one at the bound is read."""
    data = pack(VALUES)

    assert unpack(data, limits=PackLimits(max_array_bytes=24)).shape == (2, 3)
    with pytest.raises(WireError, match="at most 23 bytes"):
        unpack(data, limits=PackLimits(max_array_bytes=23))
