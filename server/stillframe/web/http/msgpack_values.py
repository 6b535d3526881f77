"""Values in a msgpack map: arrays and numpy strings; an unsupported one stays in place, an error only where it is read.

Knows the maps that encode arrays; no field's meaning. An array of one string is a string.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from stillframe_client.wire import UnsupportedDtype, WireError, meaning_of

_TEXT = re.compile(r"(?P<order>[<>=|]?)(?P<kind>[US])(?P<length>\d{1,6})")


@dataclass(frozen=True)
class UnsupportedValue:
    """A value of a type that no field accepts."""

    why: str


def decode_map(found: dict[str, Any], max_array_bytes: int) -> Any:
    """Decode a map that encodes an array; one not of plain numbers becomes text, or UnsupportedValue.

    Raises WireError for a map that claims to be an array and is none.
    """
    try:
        return meaning_of(found, max_array_bytes)
    except UnsupportedDtype as error:
        text = _text(found)
        return UnsupportedValue(str(error)) if text is None else text


def _text(found: dict[str, Any]) -> str | None:
    """Return the string of a numpy scalar or array of one: UCS-4, or bytes; both zero-padded."""
    dtype, data, shape = found.get("dtype", found.get("type")), found.get("data"), found.get("shape", [])
    name = dtype.decode("latin-1") if isinstance(dtype, bytes) else dtype
    if isinstance(data, str) and "__npgeneric__" in found:
        return data
    match = _TEXT.fullmatch(name) if isinstance(name, str) else None
    if match is None or not isinstance(data, bytes) or not _is_one(shape):
        return None
    return _decoded(data, match)


def _is_one(shape: Any) -> bool:
    whole = isinstance(shape, list) and all(type(size) is int for size in shape)
    return whole and math.prod(shape) == 1


def _decoded(data: bytes, dtype: re.Match[str]) -> str:
    width = int(dtype["length"]) * (4 if dtype["kind"] == "U" else 1)
    if len(data) != width:
        raise WireError(f"A string array of dtype {dtype[0]!r} needs {width} bytes; it holds {len(data)}.")
    encoding = "utf-8" if dtype["kind"] == "S" else ("utf-32-be" if dtype["order"] == ">" else "utf-32-le")
    try:
        return data.decode(encoding).rstrip("\0")
    except UnicodeDecodeError as error:
        raise WireError("A string array holds no valid Unicode.") from error
