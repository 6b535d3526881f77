"""Codecs by content type: JSON, msgpack, multipart form.

Knows no field's meaning. A reply is in the codec of its request.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from stillframe.errors import BadRequest
from stillframe.web.http.limits import Limits
from stillframe.web.http.multipart import read_form
from stillframe.web.http.parsing import Fields, parse_json, parse_msgpack
from stillframe_client.wire import pack


@dataclass(frozen=True)
class Codec:
    """How fields are read, and how the reply is written."""

    media_type: str  # of the answer
    problem_type: str  # of an answer that is a problem
    read: Callable[[bytes, str, Limits], Fields]  # body, content type, limits
    write: Callable[[Any], bytes]


def codec_of(content_type: str) -> Codec:
    """The codec of a content type; JSON where it is missing: plain HTTP clients often say none. Raises BadRequest."""
    kind = content_type.partition(";")[0].strip().lower() or "application/json"
    for suffix in ("json", "msgpack"):
        if kind.endswith(f"+{suffix}"):
            kind = f"application/{suffix}"
    codec = _CODECS.get(kind)
    if codec is None:
        detail = f"The content type is {reprlib.repr(kind)}; expected one of {', '.join(_CODECS)}"
        hint = "; curl says it with -H 'Content-Type: application/json'" if kind == _CURLS else ""
        raise BadRequest("bad-codec", f"{detail}{hint}.")
    return codec


def compact(value: Any) -> bytes:
    """Write JSON as Starlette's JSONResponse does, so that the bytes are those of OpenVLA's own server."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


_PROBLEM = "application/problem+json"
_CURLS = "application/x-www-form-urlencoded"  # what curl calls whatever it sends
JSON = Codec("application/json", _PROBLEM, lambda body, _, limits: parse_json(body, limits.max_json_parts), compact)
MSGPACK = Codec(
    "application/msgpack",
    "application/problem+msgpack",
    lambda body, _, limits: parse_msgpack(body, limits.max_json_parts),
    pack,
)
FORM = Codec("application/json", _PROBLEM, read_form, compact)
_CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "application/json": JSON,
        "application/x-json": JSON,
        "text/json": JSON,
        "application/msgpack": MSGPACK,
        "application/x-msgpack": MSGPACK,
        "application/vnd.msgpack": MSGPACK,
        "multipart/form-data": FORM,
    }
)
