"""Walks one request to begin a session's next episode over the web floor.

Knows no engine: the policy counts the episodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stillframe.errors import BadRequest
from stillframe.web.body import read_body
from stillframe.web.frames import parse_object
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits
from stillframe.web.sessions import header_ids, read_session_id

MAX_BODY_BYTES = 4096  # an id and some air: small enough to be parsed on the event loop


@dataclass(frozen=True)
class Reset:
    """The /reset routes and what they need."""

    lifecycle: Lifecycle
    limits: Limits

    async def answer(self, request: Request) -> Response:
        """Begin the named session's next episode and say which it is. Raises RequestError."""
        policy = self.lifecycle.ready_policy()
        body = await read_body(request, replace(self.limits, max_body_bytes=MAX_BODY_BYTES))
        fields = parse_object(body, self.limits.max_json_parts) if body else {}
        session_id = read_session_id(fields, header_ids(request))
        if session_id is None:
            detail = "'session_id' is missing: whose episode ends. A frame without a session leaves nothing to reset."
            raise BadRequest("missing-field", detail, pointer="/session_id")
        return JSONResponse({"session_id": session_id, "epoch": policy.reset(session_id)})
