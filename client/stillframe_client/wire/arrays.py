"""Arrays inside JSON.

Knows no HTTP library and no pictures. They have the json_numpy form of OpenVLA's clients and servers:
{"__numpy__": base64 of the C-order bytes, "dtype": "<f8", "shape": [7]}.
"""

from __future__ import annotations

import base64
import binascii
import math
import reprlib
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

import numpy as np

from stillframe_client.errors import UnsupportedDtype, WireError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Plain numbers in little-endian order; never objects, strings, structures or zero-sized items.
DTYPES = ("|u1", "<i4", "<i8", "<f2", "<f4", "<f8")
MAX_ARRAY_BYTES = 64 * 2**20
MAX_RANK = 4


def encode_array(array: NDArray[Any]) -> Dict[str, Any]:
    """Write an array as a json_numpy object, keys in json_numpy's order.

    Raises UnsupportedDtype unless its dtype is one of DTYPES.
    """
    if array.dtype.str not in DTYPES:
        raise UnsupportedDtype(f"Cannot send dtype {array.dtype}: convert it to one of {', '.join(DTYPES)}.")
    text = base64.b64encode(np.ascontiguousarray(array).data).decode("ascii")
    return {"__numpy__": text, "dtype": array.dtype.str, "shape": list(array.shape)}


def is_array(value: Any) -> bool:
    """Whether a parsed JSON value means to be a json_numpy array."""
    return isinstance(value, dict) and "__numpy__" in value


def decode_array(
    value: Mapping[str, Any], *, dtypes: Sequence[str] = DTYPES, max_bytes: int = MAX_ARRAY_BYTES
) -> NDArray[Any]:
    """Read a json_numpy object into an array that owns its memory.

    Type, rank, sizes and length are checked before anything is allocated. Raises UnsupportedDtype for a dtype outside
    `dtypes`, WireError for everything else that does not hold.
    """
    if not is_array(value):
        raise WireError("Expected a json_numpy object with __numpy__, dtype and shape.")
    dtype = _dtype(value.get("dtype"), dtypes)
    shape = _shape(value.get("shape"))
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > max_bytes:
        raise WireError(f"An array of shape {shape} has {n_bytes} bytes; at most {max_bytes} are accepted.")
    data = _bytes_of_length(value["__numpy__"], n_bytes)
    return np.frombuffer(data, dtype).reshape(shape).copy()


def decode_base64(text: str) -> bytes:
    """Read base64 strictly: standard alphabet, padded, no white space. Raises WireError."""
    return _bytes_of_length(text, _decoded_length(text))


def _decoded_length(text: str) -> int:
    """How many bytes a padded base64 text stands for, without decoding it."""
    padding = 2 if text.endswith("==") else int(text.endswith("="))
    return len(text) // 4 * 3 - padding


def _bytes_of_length(text: Any, n_bytes: int) -> bytes:
    """Decode base64 that must give exactly `n_bytes`.

    The decoder skips characters outside its alphabet, so a text that held any comes out short: one length check
    replaces a scan of the whole text.
    """
    if not isinstance(text, str) or len(text) % 4 or not text.isascii():
        raise WireError("Expected a string of standard base64 with padding and without line breaks.")
    if _decoded_length(text) != n_bytes:
        raise WireError(f"The base64 text holds {_decoded_length(text)} bytes; dtype and shape need {n_bytes}.")
    try:
        data = binascii.a2b_base64(text)
    except binascii.Error:
        data = b""
    if len(data) != n_bytes:
        raise WireError("The text is not standard base64: it holds characters outside A-Z a-z 0-9 + / =.")
    return data


def _dtype(name: Any, dtypes: Sequence[str]) -> np.dtype[Any]:
    if not isinstance(name, str) or name not in dtypes:
        raise UnsupportedDtype(f"dtype is {reprlib.repr(name)}; expected {' or '.join(dtypes)}.")
    return np.dtype(name)


def _shape(value: Any) -> List[int]:
    whole = isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)
    if not whole or len(value) > MAX_RANK:
        raise WireError(f"shape is {reprlib.repr(value)}; expected a list of at most {MAX_RANK} sizes.")
    return list(value)
