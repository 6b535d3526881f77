"""The shapes of what goes over the wire, by the names that /openapi.json gives them.

Knows no route: which shape goes where is said in descriptions.py.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stillframe.domain import REUSE_MODES, KeyframeReason, ReuseMode
from stillframe_client.wire import MAX_SESSION_ID, SESSION_ID_RULE

Schema = dict[str, Any]


class FieldFault(BaseModel):
    """One field at fault."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """A failure, as RFC 9457 writes it; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldFault]
    retry_after_ms: int | None = None
    state: str | None = None


class Cache(BaseModel):
    """What a frame reused of its session's last ones; also in the header X-Stillframe-Cache of every answer."""

    mode: ReuseMode
    frame: Literal["keyframe", "delta"]
    reason: KeyframeReason | None  # why the frame was computed whole
    reuse_ratio: float
    reused_tokens: int
    total_tokens: int
    kv_bytes: int
    age_max: int


class SessionPlace(BaseModel):
    """Which frame of which session it was; also in the header X-Stillframe-Session."""

    id: str
    epoch: int
    seq: int


class Actions(BaseModel):
    """The readable answer to a frame; `session` only where the frame named one."""

    actions: list[list[float]]
    unnorm_key: str
    model: str
    timing_ms: dict[str, float]
    cache: Cache
    session: SessionPlace | None = None


class ResetDone(BaseModel):
    """The episode that begins."""

    session_id: str
    epoch: int


_ARRAY: Schema = {
    "type": "object",
    "description": "A json_numpy array: base64 of C-order bytes.",
    "required": ["__numpy__", "dtype", "shape"],
    "properties": {
        "__numpy__": {"type": "string", "contentEncoding": "base64"},
        "dtype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
    },
}
_PICTURE: Schema = {
    "oneOf": [
        {"$ref": "#/components/schemas/Array"},
        {"type": "string", "description": "base64 of a JPEG or PNG file, bare or as a data: URI"},
    ]
}
_SESSION_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_SESSION_ID,
    "description": f"whose frame it is: {SESSION_ID_RULE}; without one nothing outlives the frame",
}
_FRAME: Schema = {
    "type": "object",
    "required": ["instruction"],
    "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
    "properties": {
        "image": {"$ref": "#/components/schemas/Picture"},
        "images": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Picture"}},
        "instruction": {"type": "string"},
        "unnorm_key": {"type": ["string", "null"], "description": "whose statistics scale the action"},
        "max_age_ms": {"type": "number", "exclusiveMinimum": 0, "description": "older frames are not computed"},
        "session_id": {"anyOf": [{"$ref": "#/components/schemas/SessionId"}, {"type": "null"}]},
        "reuse": {
            "enum": [*REUSE_MODES, None],
            "description": "how much of the session's last frame this one may reuse; null: as the daemon is set",
        },
    },
}
_ENCODED: Schema = {
    "type": "object",
    "required": ["encoded"],
    "additionalProperties": False,
    "properties": {"encoded": {"type": "string", "contentMediaType": "application/json"}},
}
_RESET: Schema = {
    "type": "object",
    "properties": {"session_id": {"$ref": "#/components/schemas/SessionId"}},
}
_WRITTEN: Schema = {
    "Array": _ARRAY,
    "Picture": _PICTURE,
    "SessionId": _SESSION_ID,
    "Frame": _FRAME,
    "Encoded": _ENCODED,
    "Reset": _RESET,
}


def component_schemas() -> Schema:
    """Return the schemas that the descriptions refer to by name."""
    models: list[type[BaseModel]] = [Problem, Actions, ResetDone]
    _, generated = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {**generated["$defs"], **_WRITTEN}
