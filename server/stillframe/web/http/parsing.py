"""Parse one JSON object or msgpack map into fields, with bounds checked before objects are built.

Knows no field's meaning.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

from stillframe.errors import BadRequest
from stillframe.web.http.msgpack_values import decode_map
from stillframe_client.wire import PackLimits, WireError, read_value

Fields = Mapping[str, Any]  # in the request's order, which dialects use

# Message of Python's parser -> ours, which continues with the position.
_FAULTS = {
    "Invalid control character": "a line break or another control character inside a string; write it as \\n",
    "Unterminated string": "a string that never ends",
    "Invalid \\": "a backslash that begins no escape; write \\\\ for one",
    "Expecting property name": "no name in double quotes where an object's next member has to begin",
    "Illegal trailing comma": "a comma behind the last member",
    "Expecting ':'": "no colon behind a member's name",
    "Expecting ','": "no comma where one member ends and another begins",
    "Expecting value": "no value where one has to be",
    "Extra data": "something behind the end of the object",
    "Unexpected UTF-8 BOM": "a byte order mark; send plain UTF-8",
}


def parse_json(text: bytes | str, max_parts: int) -> Fields:
    """Parse one JSON object.

    Refuses NaN, broken Unicode, a key that stands twice, and anything with over `max_parts` commas and brackets.
    """
    value = parse_json_value(text, max_parts)
    if not isinstance(value, dict):
        raise BadRequest("bad-json", "The body is JSON, but not an object.")
    return value


def parse_json_value(text: bytes | str, max_parts: int) -> Any:
    """Parse one JSON value, under the same bounds."""
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        if sum(plain.count(mark) for mark in ",[{") > max_parts:
            raise BadRequest("bad-json", f"The body has over {max_parts} parts; send pictures as base64, not as lists.")
        return json.loads(plain, parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadRequest("bad-json", f"The body is not valid JSON in UTF-8: {_fault(error)}.") from error


def parse_msgpack(data: bytes, max_parts: int) -> Fields:
    """Parse one msgpack map; arrays become read-only numpy arrays over the bytes, unsupported ones UnsupportedValue.

    Raises BadRequest.
    """
    limits = PackLimits(max_parts=max_parts)
    try:
        value = read_value(bytes(data), limits, lambda found: decode_map(found, limits.max_array_bytes))
    except WireError as error:
        raise BadRequest("bad-codec", str(error)) from error
    if not isinstance(value, dict):
        raise BadRequest("bad-codec", "The body is msgpack, but not a map.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRequest("bad-json", f"An object of the body holds the key {reprlib.repr(twice)} twice; send it once.")
    return found


def _fault(error: ValueError | RecursionError) -> str:
    """Return what is wrong and where."""
    if isinstance(error, json.JSONDecodeError):
        what = next((ours for theirs, ours in _FAULTS.items() if error.msg.startswith(theirs)), "a fault")
        return f"line {error.lineno}, column {error.colno}: {what}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8"
    if isinstance(error, RecursionError):
        return "objects and lists are nested too deep"
    return str(error) if isinstance(error, _Constant) else "a number has too many digits"


class _Constant(ValueError):
    """NaN or an infinity, which Python would read."""


def _no_constant(name: str) -> NoReturn:
    raise _Constant(f"{name} is no number of JSON")
