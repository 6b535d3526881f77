"""Answers what is not a frame: health, what is served, metrics, what a problem means.

Knows no policy beyond its description and its state.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from stillframe import __version__
from stillframe.errors import NoSuchRoute
from stillframe.metrics import Metrics
from stillframe.web.catalogue import CATALOGUE
from stillframe.web.contract import ModelList, model_card
from stillframe.web.descriptions import CODE_PARAMETER, problem_responses
from stillframe.web.lifecycle import Lifecycle, State
from stillframe.web.problems import problem_response


@dataclass(frozen=True)
class FrontDesk:
    """The routes and what they read from."""

    lifecycle: Lifecycle
    metrics: Metrics

    def routes(self) -> APIRouter:
        """Return the routes, described for /openapi.json."""
        router = APIRouter()
        waiting = problem_responses(503)
        router.add_api_route("/livez", self.livez, tags=["health"])
        router.add_api_route("/readyz", self.readyz, tags=["health"], responses=waiting)
        router.add_api_route(
            "/healthz", self.healthz, tags=["health"], response_class=PlainTextResponse, responses=waiting
        )
        router.add_api_route("/metrics", self.scrape, tags=["health"], response_class=PlainTextResponse)
        router.add_api_route("/v1/models", self.models, response_model=ModelList, tags=["policy"], responses=waiting)
        router.add_api_route(
            "/problems/{code}",
            self.problem,
            tags=["policy"],
            responses=problem_responses(404),
            openapi_extra={"parameters": [CODE_PARAMETER]},
        )
        return router

    async def livez(self) -> dict[str, str]:
        """Answer 200 as long as the process runs, whatever its state."""
        return {"state": "alive"}

    async def readyz(self, request: Request) -> Response:
        """Answer 200 when frames are taken; else 503 with the state (loading, warming, draining) and Retry-After."""
        state = self.lifecycle.state
        if state is State.READY:
            return JSONResponse({"state": state.value})
        return problem_response(self.lifecycle.refusal(state), request, state=state.value)

    async def healthz(self, request: Request) -> Response:
        """Answer the text OK when frames are taken, else as /readyz does."""
        if self.lifecycle.state is State.READY:
            return PlainTextResponse("OK\n")
        return await self.readyz(request)

    async def scrape(self) -> Response:
        """Return the metrics in Prometheus' text format."""
        policy = self.lifecycle.policy
        ready = self.lifecycle.state is State.READY
        info, usage = (policy.info, policy.usage) if policy else (None, None)
        text = self.metrics.exposition(version=__version__, ready=ready, info=info, usage=usage)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def models(self) -> ModelList:
        """Say what is served: cameras, action names, units and frame, statistics, precision."""
        return ModelList(models=[model_card(self.lifecycle.loaded_policy().info)])

    async def problem(self, request: Request) -> dict[str, str | int]:
        """Say what a problem's code means."""
        code = request.path_params["code"]
        entry = CATALOGUE.get(code)
        if entry is None:
            raise NoSuchRoute("not-found", f"No problem has this code; the codes are {', '.join(CATALOGUE)}.")
        return {"code": code, "status": entry.status, "meaning": entry.meaning}
