"""Session routes: open, show, list, reset, close.

Knows no frame and no engine; the rules are in SessionRegistry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import Session
from stillframe.web.http.body import read_body
from stillframe.web.http.codecs import codec_of
from stillframe.web.http.limits import Limits
from stillframe.web.http.paths import path_parameter
from stillframe.web.http.session_fields import read_address, read_count, read_session_id
from stillframe.web.middleware.access import actor_of, owner_asked, owner_visible, session_manager_of, share_of
from stillframe.web.middleware.auth import Caller
from stillframe.web.middleware.listeners import Listeners, listener_of
from stillframe.web.service.lifecycle import Lifecycle
from stillframe.web.service.open_session import open_session, session_document

MAX_BODY_BYTES = 4096  # small enough to be parsed on the event loop


@dataclass(frozen=True)
class SessionRoutes:
    """The routes and what they need."""

    lifecycle: Lifecycle
    registry: SessionRegistry
    limits: Limits
    listeners: Listeners

    async def open(self, request: Request) -> Response:
        """Open a session: 201, its id and the secret that resumes it. Raises RequestError."""
        self.lifecycle.ready_policy()
        fields = await self._fields(request)
        session, resumed = open_session(self.registry, fields, actor_of(request), share_of(request))
        headers = {"Location": f"/v1/sessions/{quote(session.id, safe='')}"}
        return JSONResponse(session_document(session, resumed=resumed), 200 if resumed else 201, headers)

    async def listing(self, request: Request) -> Response:
        """Show the caller's sessions; all sessions to an admin."""
        caller = session_manager_of(request)
        cards = self.registry.listing(owner_visible(caller))
        return JSONResponse({"sessions": [asdict(card) for card in cards]})

    async def show(self, request: Request) -> Response:
        """Show one session."""
        return JSONResponse(asdict(self._session(request, session_manager_of(request)).info()))

    async def close(self, request: Request) -> Response:
        """Close a session: what it left is freed, frames that wait are answered with a problem."""
        self.registry.close(self._session(request, session_manager_of(request)))
        return Response(status_code=204)

    async def reset(self, request: Request) -> Response:
        """Begin the episode after this one. Under /v1 the session has to be known."""
        self.lifecycle.ready_policy()
        fields = await self._fields(request)
        session = self._session(request, actor_of(request))
        epoch = self.registry.reset(session, epoch=read_count(fields, "epoch"))
        return JSONResponse({"session_id": session.id, "epoch": epoch})

    async def reset_named(self, request: Request) -> Response:
        """Begin the next episode of the session that body or header names; a session that is new begins its first.

        Where none is named there is nothing to end: frames without a session leave nothing.
        """
        self.lifecycle.ready_policy()
        fields = await self._fields(request)
        head = read_address(request, fallback=listener_of(request.scope, self.listeners).session)
        session_id = read_session_id(fields, head) or head.fallback
        if session_id is None:
            return JSONResponse({"session_id": None, "epoch": None})
        epoch = self.registry.reset_named(
            session_id, owner=actor_of(request).name, share=share_of(request), epoch=read_count(fields, "epoch")
        )
        return JSONResponse({"session_id": session_id, "epoch": epoch})

    def _session(self, request: Request, caller: Caller) -> Session:
        """Return the path's session if it is the caller's; an admin's may be any, of the owner in ?owner=."""
        return self.registry.find(path_parameter(request, "session_id") or "", owner=owner_asked(request, caller))

    async def _fields(self, request: Request) -> Mapping[str, Any]:
        content_type = request.headers.get("content-type", "")
        codec = codec_of(content_type)
        body = await read_body(request, replace(self.limits, max_body_bytes=MAX_BODY_BYTES), lambda _: None)
        return codec.read(body, content_type, self.limits) if body else {}
