"""Reads JSON that a peer wrote, bounded in parts, depth and digits; a key that comes twice is refused.

Knows no message: what an object that means an array becomes, the caller says.
"""

from __future__ import annotations

import json
import math
from typing import Any, Callable, Dict, List, NoReturn, Tuple

from stillframe_client.errors import WireError
from stillframe_client.wire.arrays import is_array
from stillframe_client.wire.parts import PackLimits

_LONGEST_NUMBER = 64  # characters: Python before 3.11 takes minutes over a million digits

Arrays = Callable[[Dict[str, Any]], Any]  # what a json_numpy object becomes


def read_json(data: Any, limits: PackLimits, arrays: Arrays) -> Any:
    """Read one JSON value, text or UTF-8; json_numpy objects become what `arrays` makes of them. Raises WireError."""
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8")
        if sum(text.count(mark) for mark in ",[{") > limits.max_parts:
            raise WireError(f"The message has over {limits.max_parts} parts; send arrays and pictures as base64.")
        value = json.loads(
            text, object_pairs_hook=_unique, parse_int=_whole, parse_float=_finite, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise WireError("The message is not valid JSON in UTF-8 with finite numbers.") from error
    return _revived(value, limits, arrays, depth=0)


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise WireError("An object of the message holds a key twice.")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError
    return number


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _revived(value: Any, limits: PackLimits, arrays: Arrays, depth: int) -> Any:
    """Turn json_numpy objects into arrays, on the way down so that depth is judged first."""
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth >= limits.max_depth:
        raise WireError(f"Objects and lists are nested over {limits.max_depth} deep.")
    if isinstance(value, list):
        return [_revived(item, limits, arrays, depth + 1) for item in value]
    if is_array(value):
        return arrays(value)
    return {_key(key, limits): _revived(item, limits, arrays, depth + 1) for key, item in value.items()}


def _key(key: str, limits: PackLimits) -> str:
    if len(key) > limits.max_key_length:
        raise WireError(f"A key is {len(key)} long; at most {limits.max_key_length} are accepted.")
    return _text(key)


def _text(text: str) -> str:
    try:
        _ = text.isascii() or text.encode()  # the first costs nothing
    except UnicodeEncodeError as error:
        raise WireError("A string holds half a surrogate pair, which is no Unicode.") from error
    return text
