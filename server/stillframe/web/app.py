"""Builds the ASGI app: routes, middleware, problem handlers, OpenAPI.

Knows no engine and no YAML: what lives longer than a request is passed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from logging import Logger
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from stillframe import __version__
from stillframe.metrics import Metrics
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.settings import SessionSettings
from stillframe.stopwatch import Clock
from stillframe.tracing import FrameTracer
from stillframe.web.dialects.select import ROUTES
from stillframe.web.http.decode_pool import DecodePool
from stillframe.web.http.images import prepare_pillow
from stillframe.web.http.limits import Limits
from stillframe.web.http.paths import EncodedSlashes
from stillframe.web.http.problems import install_problem_handlers
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.listing import LiveSources
from stillframe.web.live.routes import LiveRoutes
from stillframe.web.live.settings import LiveSettings
from stillframe.web.middleware.absolute_form import AbsoluteFormMiddleware
from stillframe.web.middleware.access import HEALTH_PATHS, AccessMiddleware
from stillframe.web.middleware.auth import Authenticator
from stillframe.web.middleware.listeners import Listeners
from stillframe.web.middleware.origins import HostOriginCheck
from stillframe.web.middleware.rate_limit import RateLimiter
from stillframe.web.middleware.request_id import RequestIdMiddleware
from stillframe.web.openapi.builders import Description
from stillframe.web.openapi.routes import DESCRIPTIONS
from stillframe.web.openapi.schemas import component_schemas
from stillframe.web.routes.act import ActRoute
from stillframe.web.routes.info import InfoRoutes
from stillframe.web.routes.sessions import SessionRoutes
from stillframe.web.service.connections import ConnectionLimiter
from stillframe.web.service.inference import InferenceService
from stillframe.web.service.interpretation_log import InterpretationLog
from stillframe.web.service.lifecycle import Lifecycle, MaintenanceTask
from stillframe.web.service.loop_errors import LoopErrorHandler
from stillframe.web.streaming.native import PATH as STREAM_PATH
from stillframe.web.streaming.native import StreamContext
from stillframe.web.streaming.routes import StreamRoutes

Handler = Callable[[Request], Awaitable[Response]]


class StillframeApp(FastAPI):
    """FastAPI, with the component schemas added to /openapi.json."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(component_schemas())
        return document


@dataclass(frozen=True)
class WebSettings:
    """The web layer's settings. The defaults ask for no token and set no rate."""

    limits: Limits = field(default_factory=Limits)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    authenticator: Authenticator = field(default_factory=Authenticator)
    origins: HostOriginCheck = field(default_factory=HostOriginCheck)
    frame_limiter: RateLimiter = field(default_factory=RateLimiter)  # of each session's frames
    request_limiter: RateLimiter = field(
        default_factory=RateLimiter
    )  # of each caller's requests and messages, of any kind
    listeners: Listeners = field(default_factory=dict)
    drain_s: float = 10.0
    live: LiveSettings = field(default_factory=LiveSettings)
    feed: LiveFeed = field(default_factory=LiveFeed)  # which the policy tells of its frames
    in_force: Mapping[str, Any] = field(default_factory=dict)  # the deployment's settings, to be shown; no secrets


def create_app(
    lifecycle: Lifecycle,
    settings: WebSettings,
    *,
    metrics: Metrics,
    log: Logger,
    clock: Clock,
    tracer: FrameTracer | None = None,
) -> FastAPI:
    """Return the ASGI app that serves the policy that `lifecycle` holds, or will hold.

    Without a policy yet, /livez answers 200 and routes that need one answer 503. `log` gets the tracebacks of
    unexpected errors.
    """
    prepare_pillow()
    registry = SessionRegistry(settings.sessions, lifecycle.loaded_policy, clock, metrics.sessions)
    decode_pool = DecodePool(settings.limits)
    connections = ConnectionLimiter(settings.limits.max_streams)
    lifecycle.on_drain(connections.drain)
    live = _live_routes(lifecycle, registry, settings) if settings.live.enabled else None
    app = StillframeApp(
        title="stillframe",
        version=__version__,
        description="Robot-policy serving: camera frames and an instruction in, an action out.",
        lifespan=_lifespan(MaintenanceTask(lifecycle, registry, metrics, log), decode_pool, live),
        redirect_slashes=False,
        docs_url=None,  # that page would load its scripts from a CDN; /docs is one of web/live/static
        redoc_url=None,
    )
    app.add_middleware(EncodedSlashes)
    app.add_middleware(
        AccessMiddleware,
        authenticator=settings.authenticator,
        origins=settings.origins,
        request_limiter=settings.request_limiter,
        open_paths=HEALTH_PATHS | (live.pages.keys() if live else set()),
    )
    app.add_middleware(RequestIdMiddleware, log=log)
    app.add_middleware(AbsoluteFormMiddleware)
    install_problem_handlers(app)
    app.include_router(InfoRoutes(lifecycle, registry, connections, metrics, settings.listeners).routes())
    if live is not None:
        metrics.watched(lambda: live.report)
        app.include_router(live.routes())
    inference = InferenceService(lifecycle, registry, settings.limits, metrics, InterpretationLog(log), tracer)
    _add_frames(app, ActRoute(inference, decode_pool, settings.frame_limiter, settings.listeners))
    _add_sessions(app, SessionRoutes(lifecycle, registry, settings.limits, settings.listeners))
    streaming = StreamContext(
        inference, decode_pool, settings.frame_limiter, settings.request_limiter, settings.drain_s
    )
    _add_streams(app, StreamRoutes(streaming, connections, settings.listeners, log))
    return app


def _live_routes(lifecycle: Lifecycle, registry: SessionRegistry, settings: WebSettings) -> LiveRoutes:
    sources = LiveSources(lifecycle, registry, settings.feed, settings.live, settings.in_force)
    return LiveRoutes(sources, settings.listeners)


def _add_frames(app: FastAPI, act: ActRoute) -> None:
    for path, choose in ROUTES.items():
        _add(app, "POST", path, act.route(choose))


def _add_sessions(app: FastAPI, sessions: SessionRoutes) -> None:
    _add(app, "POST", "/reset", sessions.reset_named)
    _add(app, "POST", "/v1/reset", sessions.reset_named)
    _add(app, "POST", "/v1/sessions", sessions.open)
    _add(app, "GET", "/v1/sessions", sessions.listing)
    _add(app, "GET", "/v1/sessions/{session_id}", sessions.show)
    _add(app, "DELETE", "/v1/sessions/{session_id}", sessions.close)
    _add(app, "POST", "/v1/sessions/{session_id}/reset", sessions.reset)


def _add_streams(app: FastAPI, streams: StreamRoutes) -> None:
    app.add_api_websocket_route(STREAM_PATH, streams.native)
    app.add_api_websocket_route("/", streams.profiled)
    app.add_api_websocket_route("/roboarena", streams.roboarena)


def _add(app: FastAPI, method: str, path: str, answer: Handler) -> None:
    said: Description = DESCRIPTIONS[method, path]
    app.add_api_route(
        path,
        answer,
        methods=[method],
        tags=[said.tag],
        status_code=said.status,
        responses=said.responses,
        openapi_extra=said.extra,
    )


def _lifespan(
    maintenance: MaintenanceTask, decode_pool: DecodePool, live: LiveRoutes | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(LoopErrorHandler(maintenance.log))
        task = asyncio.ensure_future(maintenance.run())
        yield
        task.cancel()
        decode_pool.close()
        if live is not None:
            live.sources.encoder.close()

    return lifespan
