"""Describes the routes for /openapi.json: what a frame looks like, what its answers look like, with examples.

Knows no request; tests post the examples to the daemon, so they cannot go stale.
"""

from __future__ import annotations

import json

import numpy as np

from stillframe.web.catalogue import CATALOGUE, Entry
from stillframe.web.problems import MEDIA_TYPE
from stillframe.web.schemas import Schema
from stillframe_client.wire import CACHE_HEADER, PLACE_HEADER, SESSION_HEADER, encode_array

Responses = dict[int | str, Schema]  # HTTP status -> description


def _json(name: str) -> Schema:
    """A string that holds the JSON of a schema."""
    inner = {"$ref": f"#/components/schemas/{name}"}
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": inner}


_HEADERS: Schema = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "quote it when you ask about this frame"},
    "Server-Timing": {
        "schema": {"type": "string"},
        "description": "milliseconds per stage, then total; the word 'late' if the frame's max_age_ms had passed",
    },
    CACHE_HEADER: {"schema": _json("Cache"), "description": "what the frame reused, as JSON"},
    PLACE_HEADER: {
        "schema": _json("SessionPlace"),
        "description": "which frame of its session it was, as JSON; only where the frame named one",
    },
}
_SESSION_PARAMETER: Schema = {
    "name": SESSION_HEADER,
    "in": "header",
    "schema": {"$ref": "#/components/schemas/SessionId"},
    "description": "the same as session_id in the body, for those who cannot change that; one of the two is enough",
}
CODE_PARAMETER: Schema = {"name": "code", "in": "path", "required": True, "schema": {"type": "string"}}

# An 8 x 8 grey PNG, the smallest picture the daemon takes.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="

_CACHE: Schema = {
    "mode": "adaptive",
    "frame": "keyframe",
    "reason": "first-frame",  # null for a delta frame; FastAPI drops nulls from examples
    "reuse_ratio": 0.0,
    "reused_tokens": 0,
    "total_tokens": 281,
    "kv_bytes": 1_105_920,
    "age_max": 0,
}


def act_description() -> Schema:
    """Describe the body of /act, with one example for each dialect (for a policy with one camera)."""
    either = {"oneOf": [{"$ref": "#/components/schemas/Frame"}, {"$ref": "#/components/schemas/Encoded"}]}
    content = {"application/json": {"schema": either, "examples": _frame_examples()}}
    return {"requestBody": {"required": True, "content": content}, "parameters": [_SESSION_PARAMETER]}


def reset_description() -> Schema:
    """Describe the body of /reset, which may be empty where the header names the session."""
    example = {"summary": "the arm's next episode", "value": {"session_id": "arm-1"}}
    schema = {"$ref": "#/components/schemas/Reset"}
    content = {"application/json": {"schema": schema, "examples": {"session": example}}}
    return {"requestBody": {"required": False, "content": content}, "parameters": [_SESSION_PARAMETER]}


def reset_responses() -> Responses:
    """Describe the answers of /reset."""
    content = {
        "schema": {"$ref": "#/components/schemas/ResetDone"},
        "examples": {"session": {"summary": "the second episode", "value": {"session_id": "arm-1", "epoch": 1}}},
    }
    done = {
        "description": "The session's next frame is a keyframe.",
        "headers": {"X-Request-Id": _HEADERS["X-Request-Id"]},
        "content": {"application/json": content},
    }
    return {200: done, **problem_responses(400, 413, 422, 500, 503)}


def act_responses() -> Responses:
    """Describe the answers of /act: an action in the dialect of the frame, or a problem."""
    bare = encode_array(np.zeros(7))
    readable = {"actions": [[0.0] * 7], "unnorm_key": "jaco", "model": "jaco-tiny", "timing_ms": {"total": 41.5}}
    readable |= {"cache": _CACHE, "session": {"id": "arm-1", "epoch": 0, "seq": 0}}
    examples = {
        "openvla": {"summary": "to raw pictures: the float64 array alone", "value": bare},
        "double-encoded": {"summary": "the same as JSON in a string", "value": json.dumps(bare)},
        "readable": {"summary": "to JPEG or PNG: the whole chunk, and what was reused", "value": readable},
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
        "session": {
            "summary": "a session's frame: it may reuse what the last one computed",
            "value": {"image": _PNG, **words, "session_id": "arm-1", "reuse": "adaptive"},
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
