"""Routes of the live page: the pages' files, which need no token; the feed of events and a snapshot, which do.

Knows which sessions a caller may see, as /v1/sessions does; not what an event says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stillframe.domain import WatchReport
from stillframe.errors import Overloaded
from stillframe.sessions.session import Session
from stillframe.web.live.event_stream import EventStream
from stillframe.web.live.listing import LiveSources, snapshot_document
from stillframe.web.live.static_files import StaticFile, load_pages
from stillframe.web.live.watcher import Watcher
from stillframe.web.middleware.access import owner_asked, owner_visible, session_manager_of, share_of
from stillframe.web.middleware.auth import Caller
from stillframe.web.middleware.listeners import Listeners, listener_of
from stillframe.web.service.connections import ConnectionLimiter
from stillframe.web.service.lifecycle import State

FEED_PATH, SNAPSHOT_PATH = "/live/feed", "/live/sessions"
UNCACHED = {"Cache-Control": "no-store"}


@dataclass
class LiveRoutes:
    """The routes and what they need."""

    sources: LiveSources
    listeners: Listeners
    pages: Mapping[str, StaticFile] = field(default_factory=load_pages)
    refused: int = 0  # watchers, for there were as many as may be

    def __post_init__(self) -> None:
        self.watchers = ConnectionLimiter(self.sources.settings.most)
        self.sources.lifecycle.on_drain(self.watchers.drain)

    @property
    def report(self) -> WatchReport:
        """Counts so far."""
        return WatchReport(self.watchers.open, self.refused, self.sources.encoder.encoded)

    def routes(self) -> APIRouter:
        """Return the routes; /openapi.json leaves them out, for they are the pages' own."""
        router = APIRouter(include_in_schema=False)
        for path, page in self.pages.items():
            router.add_route(path, page.answer, methods=["GET", "HEAD"], include_in_schema=False)
        router.add_api_route(FEED_PATH, self.feed, methods=["GET"])
        router.add_api_route(SNAPSHOT_PATH, self.snapshot, methods=["GET"])
        return router

    async def feed(self, request: Request) -> Response:
        """Send events of the sessions that the caller may see, and of the one in ?session=. Raises RequestError."""
        caller, lifecycle = session_manager_of(request), self.sources.lifecycle
        if lifecycle.state is State.DRAINING:
            raise lifecycle.refusal(State.DRAINING)
        apply = listener_of(request.scope, self.listeners).start_options.apply
        watcher = Watcher(self.sources, owner_visible(caller), self._session(request, caller), apply)
        return EventStream(lambda: self._admit(share_of(request)), watcher.events)

    async def snapshot(self, request: Request) -> Response:
        """Say once how the daemon and the sessions that the caller may see stand; no picture. Raises RequestError."""
        owner = owner_visible(session_manager_of(request))
        return JSONResponse(snapshot_document(self.sources, owner), headers=UNCACHED)

    def _session(self, request: Request, caller: Caller) -> Session | None:
        named = request.query_params.get("session")
        return None if named is None else self.sources.registry.find(named, owner=owner_asked(request, caller))

    @contextmanager
    def _admit(self, share: str) -> Iterator[asyncio.Event]:
        """Count a watcher. With the last one go all pictures."""
        try:
            with self.watchers.admit(share) as draining:
                yield draining
        except Overloaded:
            self.refused += 1
            raise
        finally:
            if not self.watchers.open:
                self.sources.feed.release_pictures()
                self.sources.encoder.release()
