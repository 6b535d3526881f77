"""OpenAPI descriptions of the routes: requests and responses, with examples.

Knows no request; tests post the examples to the daemon, so they cannot go stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stillframe.web.openapi.builders import (
    HEADERS,
    KEY_PARAMETER,
    OWNER_PARAMETER,
    PNG_FRAME,
    READABLE,
    REQUEST_ID,
    SESSION_FRAME,
    SESSION_PARAMETER,
    SESSION_PATH,
    SESSION_PROBLEMS,
    Description,
    Responses,
    Schema,
    content,
    problems,
    ref,
    request_body,
    response,
)
from stillframe.web.openapi.legacy_routes import LEGACY_DESCRIPTIONS


def _native_body(*parameters: Schema) -> Schema:
    said = content(ref("Frame"), png=PNG_FRAME, session=SESSION_FRAME)
    said["application/msgpack"] = {"schema": ref("Frame")}
    said["multipart/form-data"] = {"schema": ref("FrameForm")}
    return request_body(said, *parameters)


def _native_answers() -> Responses:
    said = content(ref("Actions"), readable={"summary": "the whole chunk, and what was reused", "value": READABLE})
    said["application/msgpack"] = {"schema": ref("Actions")}
    return {200: response("Actions.", said, HEADERS), **problems(504, *SESSION_PROBLEMS)}


def _reset_body(*parameters: Schema) -> Schema:
    example = {"summary": "the arm's next episode", "value": {"session_id": "arm-1"}}
    return request_body(content(ref("Reset"), session=example), *parameters, required=False)


def _reset_answers(*statuses: int) -> Responses:
    example = {"summary": "the second episode", "value": {"session_id": "arm-1", "epoch": 1}}
    done = response("The session's next frame is a keyframe.", content(ref("ResetDone"), session=example))
    return {200: done, **problems(*statuses)}


def _open_body() -> Schema:
    return request_body(
        content(
            ref("OpenSession"),
            server={"summary": "an id of the daemon's choosing", "value": {}},
            own={"summary": "an id of your own", "value": {"session_id": "arm-7", "service": "realtime"}},
        ),
        required=False,
    )


def _open_answers() -> Responses:
    value = {"session_id": "arm-7", "secret": "q1w2e3r4", "epoch": 0, "service": "realtime", "resumed": False}
    said = content(ref("SessionOpened"), opened={"summary": "a new session", "value": value})
    location = {"Location": {"schema": {"type": "string"}}, "X-Request-Id": REQUEST_ID}
    return {
        201: response("The session is open.", said, location),
        200: response("The session goes on: its secret was given.", said, location),
        **problems(*SESSION_PROBLEMS),
    }


def _shown(schema: str, *statuses: int) -> Responses:
    return {200: response("As it is now.", {"application/json": {"schema": ref(schema)}}), **problems(*statuses)}


def _descriptions() -> Mapping[tuple[str, str], Description]:
    owned: Schema = {"parameters": [SESSION_PATH, OWNER_PARAMETER]}
    gone: Responses = {204: {"description": "It is closed; what it left is freed."}}
    return {
        **LEGACY_DESCRIPTIONS,
        ("POST", "/v1/act"): Description(
            "policy", _native_answers(), extra=_native_body(SESSION_PARAMETER, KEY_PARAMETER)
        ),
        ("POST", "/v1/sessions/{session_id}/act"): Description(
            "sessions", _native_answers(), extra=_native_body(SESSION_PATH, KEY_PARAMETER)
        ),
        ("POST", "/reset"): Description(
            "sessions", _reset_answers(404, 409, 410), extra=_reset_body(SESSION_PARAMETER)
        ),
        ("POST", "/v1/reset"): Description(
            "sessions", _reset_answers(404, 409, 410), extra=_reset_body(SESSION_PARAMETER)
        ),
        ("POST", "/v1/sessions"): Description("sessions", _open_answers(), status=201, extra=_open_body()),
        ("GET", "/v1/sessions"): Description("sessions", _shown("SessionList")),
        ("GET", "/v1/sessions/{session_id}"): Description(
            "sessions", _shown("SessionInfo", 404, 409, 410), extra=owned
        ),
        ("DELETE", "/v1/sessions/{session_id}"): Description(
            "sessions", {**gone, **problems(404, 409, 410)}, status=204, extra=owned
        ),
        ("POST", "/v1/sessions/{session_id}/reset"): Description(
            "sessions", _reset_answers(404, 409, 410), extra=_reset_body(SESSION_PATH)
        ),
    }


DESCRIPTIONS: Mapping[tuple[str, str], Description] = MappingProxyType(_descriptions())  # by method and path
