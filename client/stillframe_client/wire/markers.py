"""Maps that mean arrays: the forms that robot clients write into msgpack, read without a copy.

Knows no bytes of msgpack and no pictures. The forms: openpi's (`__ndarray__`, `__npgeneric__`), msgpack-numpy's
(`nd`, `type`, `kind`), GR00T's (`__ndarray_class__` round an .npy file) and vla-evaluation-harness's (`__image__`).
"""

from __future__ import annotations

import math
import re
import reprlib
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Tuple

import numpy as np

from stillframe_client.errors import UnsupportedDtype, WireError

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

MAX_RANK = 8
# Truth values, whole numbers and floats, in either byte order; never objects, text, structures, or complex numbers.
DTYPE_NAMES = frozenset(
    ["|b1", "|i1", "|u1"]
    + [order + kind for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")]
)
_ONE_BYTE = {"b1": "|b1", "i1": "|i1", "u1": "|u1"}  # either order says nothing here: '<u1' is '|u1'
_MAX_NPY_HEADER = 512
# What numpy.save writes (NEP 1), and nothing else: so nothing has to be evaluated.
_NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,4})', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\), \} *\n"
)
_NPY_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # version -> width of the header's length

Found = Dict[str, Any]


def meaning_of(found: Found, max_array_bytes: int) -> Any:
    """Return what a map stands for: an array (read-only, over the map's bytes), a number, bytes; else the map itself.

    Raises UnsupportedDtype for other number types, WireError for a map that says it is an array and is none.
    """
    for marker, read in _FORMS.items():
        if marker in found:
            return read(found, max_array_bytes)
    if "type" in found and "data" in found and isinstance(found.get("nd"), bool):
        return _lebedov(found, max_array_bytes)
    return found


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this type can be written and read."""
    return dtype.str in DTYPE_NAMES


def _openpi(found: Found, max_bytes: int) -> NDArray[Any]:
    return _array(_dtype(found.get("dtype")), _shape(found.get("shape")), found.get("data"), max_bytes)


def _scalar(found: Found, _: int) -> Any:
    """A numpy scalar becomes a plain number: who reads fields expects those."""
    value, kind = found.get("data"), _dtype(found.get("dtype")).kind
    if type(value) not in _SCALARS[kind]:
        raise WireError(f"A numpy scalar of kind {kind!r} holds {reprlib.repr(value)}.")
    return value


def _lebedov(found: Found, max_bytes: int) -> Any:
    kind = found.get("kind", b"")
    if not isinstance(kind, (bytes, str)) or kind:  # anything may stand there
        raise UnsupportedDtype("An array of kind 'O' or 'V' (objects, structures) is not accepted; send plain numbers.")
    dtype = _dtype(found["type"])
    if found["nd"]:
        return _array(dtype, _shape(found.get("shape")), found["data"], max_bytes)
    return _array(dtype, (), found["data"], max_bytes).item()


def _npy(found: Found, max_bytes: int) -> NDArray[Any]:
    data = found.get("as_npy")
    if not isinstance(data, bytes) or data[:6] != b"\x93NUMPY" or data[6:8] not in _NPY_LENGTH_BYTES:
        raise WireError("'as_npy' does not hold an .npy file.")
    start = 8 + _NPY_LENGTH_BYTES[data[6:8]]
    end = start + int.from_bytes(data[8:start], "little")
    header = None if end - start > _MAX_NPY_HEADER else _NPY_HEADER.fullmatch(data[start:end].decode("latin-1"))
    if header is None:
        raise WireError("The header of the .npy file is not one that numpy writes for an array of plain numbers.")
    dtype, fortran, sizes = header.groups()
    shape = _shape([int(size) for size in re.findall("[0-9]+", sizes)])
    return _array(_dtype(dtype), shape, memoryview(data)[end:], max_bytes, order="F" if fortran == "True" else "C")


def _image(found: Found, max_bytes: int) -> Any:
    """A picture: raw pixels become an array; JPEG and PNG stay the bytes they are."""
    kind = found.get("format")
    if isinstance(kind, str) and kind == "raw":  # an array may stand there
        return _openpi(found, max_bytes)
    if not isinstance(found.get("data"), bytes):
        raise WireError("An __image__ holds no bytes under 'data'.")
    return found["data"]


_FORMS: Mapping[str, Callable[[Found, int], Any]] = {
    "__ndarray__": _openpi,
    "__npgeneric__": _scalar,
    "__ndarray_class__": _npy,
    "__image__": _image,
}
_SCALARS: Mapping[str, Tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (float, int)}


def _array(
    dtype: np.dtype[Any], shape: Tuple[int, ...], data: Any, max_bytes: int, *, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """Lay an array over bytes that have its very length."""
    if not isinstance(data, (bytes, memoryview)):
        raise WireError("An array's data are not bytes.")
    what = f"An array of shape {list(shape)} and {dtype}"
    if math.prod(size or 1 for size in shape) * dtype.itemsize > max_bytes:  # numpy counts an empty side as one
        raise WireError(f"{what} is too large; at most {max_bytes} bytes are accepted.")
    n_bytes = math.prod(shape) * dtype.itemsize
    if len(data) != n_bytes:
        raise WireError(f"{what} needs {n_bytes} bytes; it holds {len(data)}.")
    return np.ndarray(shape, dtype, data, order=order)


def _dtype(name: Any) -> np.dtype[Any]:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    known = isinstance(name, str) and (name in DTYPE_NAMES or (name[:1] in "<>" and name[1:] in _ONE_BYTE))
    if not known:
        raise UnsupportedDtype(f"dtype is {reprlib.repr(name)}; expected plain numbers such as '|u1', '<f4' or '<i8'.")
    dtype: np.dtype[Any] = np.dtype(_ONE_BYTE.get(name[1:], name))
    return dtype


def _shape(value: Any) -> Tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK or not all(type(n) is int and n >= 0 for n in value):
        raise WireError(f"shape is {reprlib.repr(value)}; expected a list of at most {MAX_RANK} sizes.")
    return tuple(value)
