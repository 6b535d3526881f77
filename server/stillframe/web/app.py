"""Puts the web floor together: routes, gate, envelope, problems, descriptions.

Knows no engine and no YAML: everything that lives longer than a request is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
from stillframe.web.dialects.select import ROUTES
from stillframe.web.http.decode_pool import Unpacking
from stillframe.web.http.images import prepare_pillow
from stillframe.web.http.limits import Limits
from stillframe.web.http.paths import WholeSegments
from stillframe.web.http.problems import install_problem_handlers
from stillframe.web.middleware.absolute_form import AbsoluteTargets
from stillframe.web.middleware.access import Gate
from stillframe.web.middleware.auth import Callers
from stillframe.web.middleware.listeners import Listeners
from stillframe.web.middleware.origins import Origins
from stillframe.web.middleware.rate_limit import Rates
from stillframe.web.middleware.request_id import Envelope
from stillframe.web.openapi.builders import Description
from stillframe.web.openapi.routes import DESCRIPTIONS
from stillframe.web.openapi.schemas import component_schemas
from stillframe.web.routes.act import Act
from stillframe.web.routes.info import FrontDesk
from stillframe.web.routes.sessions import SessionRoutes
from stillframe.web.service.connections import Hub
from stillframe.web.service.inference import Acting
from stillframe.web.service.lifecycle import Lifecycle, Upkeep
from stillframe.web.service.loop_errors import LoopErrors
from stillframe.web.service.notices import Notices
from stillframe.web.streaming.native import PATH as STREAM_PATH
from stillframe.web.streaming.native import Streaming
from stillframe.web.streaming.routes import StreamRoutes

Answer = Callable[[Request], Awaitable[Response]]


class WebFloor(FastAPI):
    """FastAPI, with the schemas that our descriptions name added to /openapi.json."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(component_schemas())
        return document


@dataclass(frozen=True)
class House:
    """How this daemon is set up, as far as the web floor asks. The defaults let in whoever reaches it."""

    limits: Limits = field(default_factory=Limits)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    callers: Callers = field(default_factory=Callers)
    origins: Origins = field(default_factory=Origins)
    rates: Rates = field(default_factory=Rates)  # of each session's frames
    requests: Rates = field(default_factory=Rates)  # of each caller's requests and messages, of any kind
    listeners: Listeners = field(default_factory=dict)
    drain_s: float = 10.0


def create_app(lifecycle: Lifecycle, house: House, *, metrics: Metrics, log: Logger, clock: Clock) -> FastAPI:
    """Return the ASGI app that serves whatever policy `lifecycle` holds, from the first moment on.

    While there is no policy, /livez answers 200 and everything else that needs one answers 503. `log` gets the
    tracebacks of unforeseen failures.
    """
    prepare_pillow()
    roster = SessionRegistry(house.sessions, lifecycle.loaded_policy, clock, metrics.sessions)
    unpacking = Unpacking(house.limits)
    hub = Hub(house.limits.max_streams)
    lifecycle.on_drain(hub.drain)
    app = WebFloor(
        title="stillframe",
        version=__version__,
        description="Robot-policy serving: camera frames and an instruction in, an action out.",
        lifespan=_lifespan(Upkeep(lifecycle, roster, metrics, log), unpacking),
        redirect_slashes=False,
        docs_url=None,  # the page would load its scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(WholeSegments)
    app.add_middleware(Gate, callers=house.callers, origins=house.origins, requests=house.requests)
    app.add_middleware(Envelope, log=log)
    app.add_middleware(AbsoluteTargets)
    install_problem_handlers(app)
    app.include_router(FrontDesk(lifecycle, roster, hub, metrics, house.listeners).routes())
    acting = Acting(lifecycle, roster, house.limits, metrics, Notices(log))
    _add_frames(app, Act(acting, unpacking, house.rates, house.listeners))
    _add_sessions(app, SessionRoutes(lifecycle, roster, house.limits, house.listeners))
    streaming = Streaming(acting, unpacking, house.rates, house.requests, house.drain_s)
    _add_streams(app, StreamRoutes(streaming, hub, house.listeners, log))
    return app


def _add_frames(app: FastAPI, act: Act) -> None:
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


def _add(app: FastAPI, method: str, path: str, answer: Answer) -> None:
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


def _lifespan(upkeep: Upkeep, unpacking: Unpacking) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(LoopErrors(upkeep.log))
        task = asyncio.ensure_future(upkeep.run())
        yield
        task.cancel()
        unpacking.close()

    return lifespan
