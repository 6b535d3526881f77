"""Parses one JSON object or one msgpack map into fields, bounded before anything is built.

Knows no field's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from stillframe.errors import BadRequest
from stillframe_client.wire import PackLimits, WireError, unpack

Fields = Mapping[str, Any]  # in the order of the request: it may carry meaning


def parse_object(text: bytes | str, max_parts: int) -> Fields:
    """Parse one JSON object; refuse NaN, broken Unicode and anything with over `max_parts` commas and brackets."""
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        if sum(plain.count(mark) for mark in ",[{") > max_parts:
            raise BadRequest("bad-json", f"The body has over {max_parts} parts; send pictures as base64, not as lists.")
        value = json.loads(plain, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("bad-json", "The body is not valid JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise BadRequest("bad-json", "The body is JSON, but not an object.")
    return value


def parse_map(data: bytes, max_parts: int) -> Fields:
    """Parse one msgpack map; arrays in it become read-only numpy arrays over the bytes. Raises BadRequest."""
    try:
        value = unpack(data, limits=PackLimits(max_parts=max_parts))
    except WireError as error:
        raise BadRequest("bad-codec", str(error)) from error
    if not isinstance(value, dict):
        raise BadRequest("bad-codec", "The body is msgpack, but not a map.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
