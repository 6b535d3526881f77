"""The stream's messages as msgpack (binary frames) or JSON (text frames): the same fields in both.

Knows no message's meaning but one: `actions` are rows of numbers in JSON, an array in msgpack.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Union

import numpy as np

from stillframe_client.errors import WireError
from stillframe_client.wire.arrays import decode_array, encode_array
from stillframe_client.wire.documents import read_json
from stillframe_client.wire.names import JSON_PROTOCOL, MSGPACK_PROTOCOL
from stillframe_client.wire.packing import pack, unpack
from stillframe_client.wire.parts import PackLimits

_LIMITS = PackLimits()

Message = Dict[str, Any]


@dataclass(frozen=True)
class Codec:
    """One way to write messages."""

    name: str
    protocol: str  # the WebSocket sub-protocol whose server says hello this way
    _write: Callable[[Mapping[str, Any]], Union[bytes, str]]
    _read: Callable[[Any, PackLimits], Any]

    def dump(self, message: Mapping[str, Any]) -> Union[bytes, str]:
        """Write a message: bytes for a binary frame, or text for a text frame. Raises WireError (UnsupportedDtype)."""
        return self._write(message)

    def load(self, data: Union[bytes, str], *, limits: PackLimits = _LIMITS) -> Message:
        """Read a message under `limits`; a key that comes twice is refused. Raises WireError, and nothing else."""
        message = self._read(data, limits)
        if not isinstance(message, dict):
            raise WireError(f"The message is {self.name}, but not a map of names and values.")
        return message


def _to_msgpack(message: Mapping[str, Any]) -> bytes:
    return pack(dict(message))


def _from_msgpack(data: Any, limits: PackLimits) -> Any:
    if isinstance(data, str):
        raise WireError("A text frame came; msgpack goes in binary frames.")
    return unpack(data, limits=limits)


def _to_json(message: Mapping[str, Any]) -> str:
    """Arrays become json_numpy objects, bytes base64 text, numpy's scalars plain numbers."""
    actions = message.get("actions")
    rows = {"actions": actions.tolist()} if isinstance(actions, np.ndarray) else {}
    try:
        text = json.dumps(
            {**message, **rows}, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        text.encode()  # half a surrogate pair has no UTF-8
    except (TypeError, ValueError, RecursionError) as error:
        # The library's words may quote the value.
        raise WireError(
            "The message holds NaN, infinity, broken Unicode, or an object without a form in JSON."
        ) from error
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return encode_array(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(type(value).__name__)


def _from_json(data: Any, limits: PackLimits) -> Any:
    """Read JSON; json_numpy objects become arrays, and so do the rows of `actions`."""
    value = read_json(data, limits, lambda found: decode_array(found, max_bytes=limits.max_array_bytes))
    if isinstance(value, dict) and isinstance(value.get("actions"), list):
        value["actions"] = _actions(value["actions"])
    return value


def _actions(rows: List[Any]) -> Any:
    """Rows of plain numbers, all of one length, as [horizon, action_dim] float64."""
    widths = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(widths) != 1 or min(widths) < 0 or not all(type(number) in (int, float) for row in rows for number in row):
        raise WireError("'actions' are not rows of numbers, all of one length.")
    return np.array(rows, np.float64)  # no number is long enough to be too large


MSGPACK = Codec("msgpack", MSGPACK_PROTOCOL, _to_msgpack, _from_msgpack)
JSON = Codec("JSON", JSON_PROTOCOL, _to_json, _from_json)
