"""Puts the web floor together: routes, envelope, problems, descriptions.

Knows no engine and no YAML: everything that lives longer than a request is handed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from logging import Logger
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from stillframe import __version__
from stillframe.metrics import Metrics
from stillframe.web.act import Act
from stillframe.web.descriptions import (
    Responses,
    act_description,
    act_responses,
    reset_description,
    reset_responses,
)
from stillframe.web.envelope import Envelope
from stillframe.web.images import prepare_pillow
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits
from stillframe.web.problems import install_problem_handlers
from stillframe.web.reset import Reset
from stillframe.web.routes import FrontDesk
from stillframe.web.schemas import Schema, component_schemas
from stillframe.web.unpacking import Unpacking

PREFIXES = ("", "/v1")  # OpenVLA's clients post to /act
Answer = Callable[[Request], Awaitable[Response]]


class WebFloor(FastAPI):
    """FastAPI, with the schemas that our descriptions name added to /openapi.json."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(component_schemas())
        return document


def create_app(lifecycle: Lifecycle, *, limits: Limits, metrics: Metrics, log: Logger) -> FastAPI:
    """Return the ASGI app that serves whatever policy `lifecycle` holds, from the first moment on.

    While there is no policy, /livez answers 200 and everything else that needs one answers 503. `log` gets the
    tracebacks of unforeseen failures.
    """
    prepare_pillow()
    unpacking = Unpacking(limits)
    app = WebFloor(
        title="stillframe",
        version=__version__,
        description="Robot-policy serving: camera frames and an instruction in, an action out.",
        lifespan=_closing(unpacking),
        redirect_slashes=False,
        docs_url=None,  # the page would load its scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Envelope, log=log)
    install_problem_handlers(app)
    app.include_router(FrontDesk(lifecycle, metrics).routes())
    act, reset = Act(lifecycle, limits, metrics, unpacking), Reset(lifecycle, limits)
    for prefix in PREFIXES:
        _add_post(app, f"{prefix}/act", act.answer, act_responses(), act_description())
        _add_post(app, f"{prefix}/reset", reset.answer, reset_responses(), reset_description())
    return app


def _add_post(app: FastAPI, path: str, answer: Answer, responses: Responses, description: Schema) -> None:
    app.add_api_route(path, answer, methods=["POST"], tags=["policy"], responses=responses, openapi_extra=description)


def _closing(unpacking: Unpacking) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        unpacking.close()

    return lifespan
