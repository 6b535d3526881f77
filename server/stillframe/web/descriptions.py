"""Describes the routes for /openapi.json: what a frame looks like, what its answers look like, with examples.

Knows no request; tests post the examples to the daemon, so they cannot go stale.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stillframe.web.catalogue import CATALOGUE, Entry
from stillframe.web.problems import MEDIA_TYPE
from stillframe_client.wire import encode_array

Schema = dict[str, Any]
Responses = dict[int | str, Schema]  # HTTP status -> description


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


class Actions(BaseModel):
    """The readable answer to a frame."""

    actions: list[list[float]]
    unnorm_key: str
    model: str
    timing_ms: dict[str, float]


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
    },
}
_ENCODED: Schema = {
    "type": "object",
    "required": ["encoded"],
    "additionalProperties": False,
    "properties": {"encoded": {"type": "string", "contentMediaType": "application/json"}},
}
_HEADERS: Schema = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "quote it when you ask about this frame"},
    "Server-Timing": {
        "schema": {"type": "string"},
        "description": "milliseconds per stage, then total; the word 'late' if the frame's max_age_ms had passed",
    },
}
CODE_PARAMETER: Schema = {"name": "code", "in": "path", "required": True, "schema": {"type": "string"}}

# An 8 x 8 grey PNG, the smallest picture the daemon takes.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="


def act_description() -> Schema:
    """Describe the body of /act, with one example for each dialect (for a policy with one camera)."""
    either = {"oneOf": [{"$ref": "#/components/schemas/Frame"}, {"$ref": "#/components/schemas/Encoded"}]}
    content = {"application/json": {"schema": either, "examples": _frame_examples()}}
    return {"requestBody": {"required": True, "content": content}}


def act_responses() -> Responses:
    """Describe the answers of /act: an action in the dialect of the frame, or a problem."""
    bare = encode_array(np.zeros(7))
    readable = {"actions": [[0.0] * 7], "unnorm_key": "jaco", "model": "jaco-tiny", "timing_ms": {"total": 41.5}}
    examples = {
        "openvla": {"summary": "to raw pictures: the float64 array alone", "value": bare},
        "double-encoded": {"summary": "the same as JSON in a string", "value": json.dumps(bare)},
        "readable": {"summary": "to JPEG or PNG: the whole chunk", "value": readable},
    }
    schema = {
        "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Array", "Actions")] + [{"type": "string"}]
    }
    answer = {
        "description": "An action, in the dialect of the frame.",
        "headers": _HEADERS,
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }
    return {200: answer, **problem_responses(400, 413, 422, 500, 503, 504)}


def problem_responses(*statuses: int) -> Responses:
    """Describe the problems of these statuses, one example for each code."""
    return {status: _problem_response(status) for status in statuses}


def component_schemas() -> Schema:
    """Return the schemas that the descriptions refer to by name."""
    _, generated = models_json_schema(
        [(Problem, "serialization"), (Actions, "serialization")], ref_template="#/components/schemas/{model}"
    )
    return {**generated["$defs"], "Array": _ARRAY, "Picture": _PICTURE, "Frame": _FRAME, "Encoded": _ENCODED}


def _frame_examples() -> Schema:
    words = {"instruction": "pick up the red cube"}
    raw = {"image": encode_array(np.zeros((8, 8, 3), np.uint8)), **words, "unnorm_key": None}
    return {
        "openvla": {"summary": "OpenVLA's client: json_numpy", "value": raw},
        "double-encoded": {"summary": "the same as JSON in a string", "value": {"encoded": json.dumps(raw)}},
        "png": {
            "summary": "base64 PNG, at most half a second old",
            "value": {"image": _PNG, **words, "max_age_ms": 500},
        },
    }


def _problem_response(status: int) -> Schema:
    codes = {code: entry for code, entry in CATALOGUE.items() if entry.status == status}
    examples = {
        code: {"summary": entry.meaning, "value": _example(code, entry, status)} for code, entry in codes.items()
    }
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {"description": f"A problem: {', '.join(codes)}.", "content": {MEDIA_TYPE: content}}


def _example(code: str, entry: Entry, status: int) -> Schema:
    """Write a problem as the daemon would; titles belong to the code's kind of error."""
    return {
        "type": f"/problems/{code}",
        "title": entry.title,
        "status": status,
        "detail": entry.meaning,
        "instance": "/act",
        "code": code,
        "request_id": "4f1c9d0e",
        "errors": [],
    }
