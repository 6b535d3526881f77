"""msgpack with arrays in it, byte for byte as openpi's clients and servers write it.

Knows no message: values in, bytes out, and back. Source: Physical-Intelligence/openpi,
packages/openpi-client/src/openpi_client/msgpack_numpy.py (the form; the code is ours).
"""

from __future__ import annotations

from typing import Any, Dict, Union

import msgpack
import numpy as np

from stillframe_client.errors import UnsupportedDtype, WireError
from stillframe_client.wire.markers import is_plain, meaning_of
from stillframe_client.wire.parts import PackLimits, read_value

_DEFAULT = PackLimits()


def pack(value: Any) -> bytes:
    """Write a value: None, truth values, numbers, text, bytes, lists, maps, numpy arrays and scalars.

    A np.float64 is a Python float, so it goes out as a bare double; other numpy scalars keep their type. Raises
    UnsupportedDtype for an array of anything but plain numbers, WireError for other objects.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_array_map)
    except (TypeError, ValueError) as error:  # numbers over 64 bits go to _array_map as well
        # The library's words may quote the value.
        raise WireError("The message holds an object, text or a number that msgpack has no form for.") from error
    return packed


def unpack(data: Union[bytes, bytearray, memoryview], *, limits: PackLimits = _DEFAULT) -> Any:
    """Read one value; arrays become read-only numpy arrays over the bytes, numpy scalars plain numbers.

    Map keys come back as text. The four array forms of markers.py are read, with keys in text or bytes. Parts, depth
    and array sizes are judged before anything is built. Raises WireError (UnsupportedDtype for arrays of anything but
    plain numbers), and nothing else.
    """
    return read_value(bytes(data), limits, lambda found: meaning_of(found, limits.max_array_bytes))


def _array_map(value: Any) -> Dict[bytes, Any]:
    """The map that stands for an array or a numpy scalar: keys are bytes, in openpi's order."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(type(value).__name__)
    if not is_plain(value.dtype):
        raise UnsupportedDtype(f"Cannot send dtype {value.dtype}: convert it to plain numbers such as float32.")
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}
