"""Building blocks of OpenAPI route descriptions: contents, parameters, responses, problems, shared examples.

Knows no route.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stillframe.web.http.problems import MEDIA_TYPE
from stillframe.web.openapi.problem_codes import PROBLEM_CODES, ProblemCode
from stillframe_client.wire import (
    CACHE_HEADER,
    CAMERAS_HEADER,
    CHUNK_HEADER,
    HISTORY_HEADER,
    IDEMPOTENCY_HEADER,
    PLACE_HEADER,
    RTC_HEADER,
    SESSION_HEADER,
    WARNING_HEADER,
    WHOLE_CHUNK,
)

Schema = dict[str, Any]
Responses = dict[int | str, Schema]  # HTTP status -> description

GUARDED = (401, 403)  # any route but health
SESSION_PROBLEMS = (404, 409, 410, 429)


def ref(name: str) -> Schema:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


@dataclass(frozen=True)
class Description:
    """One route, as FastAPI takes it."""

    tag: str
    responses: Responses
    status: int = 200
    extra: Schema = field(default_factory=dict)


def problem_responses(*statuses: int) -> Responses:
    """Describe the problems of these statuses, one example for each code."""
    return {status: _problem_response(status) for status in statuses}


def _problem_response(status: int) -> Schema:
    codes = {code: entry for code, entry in PROBLEM_CODES.items() if entry.status == status}
    examples = {
        code: {"summary": entry.meaning, "value": _problem_example(code, entry, status)}
        for code, entry in codes.items()
    }
    document = {"schema": ref("Problem"), "examples": examples}
    return {"description": f"A problem: {', '.join(codes)}.", "content": {MEDIA_TYPE: document}}


def _problem_example(code: str, entry: ProblemCode, status: int) -> Schema:
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


def _json(name: str) -> Schema:
    """A string that holds the JSON of a schema."""
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": ref(name)}


def _header_parameter(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "header", "schema": schema, "description": description}


REQUEST_ID: Schema = {"schema": {"type": "string"}, "description": "quote it when you ask about this request"}
HEADERS: Schema = {
    "X-Request-Id": REQUEST_ID,
    "Server-Timing": {
        "schema": {"type": "string"},
        "description": "milliseconds per stage, then total; the word 'late' if the frame's max_age_ms had passed",
    },
    CACHE_HEADER: {"schema": _json("Cache"), "description": "what the frame reused, as JSON"},
    HISTORY_HEADER: {
        "schema": _json("History"),
        "description": "what is kept of older frames, or why nothing is, as JSON",
    },
    RTC_HEADER: {"schema": _json("Rtc"), "description": "what the chunk was held to, as JSON; only where it was asked"},
    PLACE_HEADER: {
        "schema": _json("SessionPlace"),
        "description": "which frame of its session it was, as JSON; only where the frame named one",
    },
    CAMERAS_HEADER: {
        "schema": {"type": "string", "contentMediaType": "application/json"},
        "description": "camera: the request's key of its picture, as JSON; only where that is another name",
    },
    WARNING_HEADER: {
        "schema": {"type": "string", "contentMediaType": "application/json"},
        "description": "what is odd about the request and was taken as it is, as a JSON list; only where anything is",
    },
}
CODE_PARAMETER: Schema = {"name": "code", "in": "path", "required": True, "schema": {"type": "string"}}
SESSION_PATH: Schema = {"name": "session_id", "in": "path", "required": True, "schema": ref("SessionId")}
OWNER_PARAMETER: Schema = {
    "name": "owner",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "for an admin: whose session, by the name of its owner's token, where several have one of this id",
}
SESSION_PARAMETER = _header_parameter(
    SESSION_HEADER,
    ref("SessionId"),
    "the same as session_id in the body, for those who cannot change that; one of the two is enough",
)
KEY_PARAMETER = _header_parameter(
    IDEMPOTENCY_HEADER,
    {"type": "string", "minLength": 1, "maxLength": 128},
    "of a session's frame without a seq: a repeat under the same key gets the same answer, computed once",
)
CHUNK_PARAMETER = _header_parameter(
    CHUNK_HEADER,
    {"type": "string", "enum": [WHOLE_CHUNK]},
    "raw pictures as well are answered with the readable object and every action, not with the first action alone",
)

# An 8 x 8 grey PNG, the smallest picture the daemon takes.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="
WORDS = {"instruction": "pick up the red cube"}

_CACHE: Schema = {
    "mode": "adaptive",
    "frame": "keyframe",
    "reason": "first-frame",  # null for a delta frame; FastAPI drops nulls from examples
    "reuse_ratio": 0.0,
    "reused_tokens": 0,
    "total_tokens": 281,
    "kv_bytes": 1_105_920,
    "age_max": 0,
    "bit_equal": True,
}
READABLE: Schema = {
    "actions": [[0.0] * 7],
    "steps": {"first": 0, "count": 1},
    "unnorm_key": "jaco",
    "model": "jaco-tiny",
    "timing_ms": {"total": 41.5},
    "cache": _CACHE,
    "session": {"id": "arm-1", "epoch": 0, "seq": 0},
    "history": {"enabled": True, "held": 6, "kept": 41, "dropped": 35, "kv_bytes": 49_152},
}
PNG_FRAME: Schema = {
    "summary": "base64 PNG, at most half a second old",
    "value": {"image": _PNG, **WORDS, "max_age_ms": 500},
}
SESSION_FRAME: Schema = {
    "summary": "a session's frame: it may reuse what the last one computed",
    "value": {"image": _PNG, **WORDS, "session_id": "arm-1", "reuse": "adaptive"},
}


def content(schema: Schema, **examples: Schema) -> Schema:
    """JSON of that shape, with examples by name."""
    return {"application/json": {"schema": schema, "examples": examples}}


def request_body(said: Schema, *parameters: Schema, required: bool = True) -> Schema:
    """What a route reads: contents by media type, and parameters beside them."""
    return {"requestBody": {"required": required, "content": said}, "parameters": list(parameters)}


def response(description: str, said: Schema, headers: Schema | None = None) -> Schema:
    """What a route answers when all goes well."""
    return {"description": description, "headers": headers or {"X-Request-Id": REQUEST_ID}, "content": said}


def problems(*statuses: int) -> Responses:
    """The problems of every guarded route that reads a body, and those of `statuses`."""
    return problem_responses(*sorted({400, 413, 422, 500, 503, *GUARDED, *statuses}))
