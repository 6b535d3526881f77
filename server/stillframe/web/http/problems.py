"""Answers every failure with an RFC 9457 problem: a stable code, what was wrong, what was expected, what to do.

Knows no route and no policy; never shows a traceback or another library's words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match

from stillframe.errors import BadRequest, Internal, NoSuchRoute, RequestError, WrongMethod
from stillframe.web.http.paths import display_path

MEDIA_TYPE = "application/problem+json"
NO_REQUEST_ID = "unknown"

Fault = dict[str, str]  # {"pointer": JSON pointer, "detail": what is wrong there}


def problem_document(
    error: RequestError, *, request_id: str, instance: str, faults: Iterable[Fault] = (), **members: Any
) -> dict[str, Any]:
    """Return `error` as a problem document, with further `members`."""
    own = [] if error.pointer is None else [{"pointer": error.pointer, "detail": error.detail}]
    wait = {} if error.retry_after_s is None else {"retry_after_ms": round(error.retry_after_s * 1000)}
    return {
        "type": f"/problems/{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
        "errors": [*own, *faults],
        **wait,
        **members,
    }


def problem_response(
    error: RequestError, request: Request, *, faults: Iterable[Fault] = (), allow: str | None = None, **members: Any
) -> Response:
    """Answer `request` with `error`; Retry-After is set where waiting helps."""
    headers = {} if allow is None else {"Allow": allow}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    document = problem_document(
        error, request_id=request_id_of(request), instance=display_path(request, 200), faults=faults, **members
    )
    return Response(json.dumps(document), error.status, headers, MEDIA_TYPE)


def request_id_of(request: HTTPConnection) -> str:
    """Return the request id that RequestIdMiddleware set."""
    return str(getattr(request.state, "request_id", NO_REQUEST_ID))


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error inside the routes with a problem."""
    app.add_exception_handler(RequestError, _answer_request_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 -- the framework's handler type cannot say so
    return problem_response(error, request)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- the framework's handler type cannot say so
    faults = [
        {"pointer": pointer(*fault["loc"][1:]), "detail": "is missing or of the wrong type"} for fault in error.errors()
    ]
    refusal = BadRequest("bad-field", "A field of the request is missing or of the wrong type; see /openapi.json.")
    return problem_response(refusal, request, faults=faults)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- the framework's handler type cannot say so
    if error.status_code == 404:
        missing = NoSuchRoute("not-found", "Nothing is served at this path; /openapi.json lists what is.")
        return problem_response(missing, request)
    if error.status_code == 405:
        allow = ", ".join(sorted(_methods(request) | set((error.headers or {})["Allow"].split(", "))))
        wrong = WrongMethod("method-not-allowed", f"This path answers {allow} only.")
        return problem_response(wrong, request, allow=allow)
    return problem_response(Internal("internal", "The request failed; quote its id to the daemon's operator."), request)


def _methods(request: Request) -> set[str]:
    """Return the methods of the request's path: the framework names those of its first route only."""
    here = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in here for method in getattr(route, "methods", None) or ()}


def pointer(*steps: object) -> str:
    """Write the JSON pointer (RFC 6901) that leads through `steps`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
