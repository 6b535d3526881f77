"""Information routes: health, status, served models, metrics, problem codes.

Knows of the policy its PolicyInfo and state only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from fastapi import APIRouter
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from stillframe import __version__
from stillframe.domain import PolicyInfo
from stillframe.errors import NoSuchRoute
from stillframe.metrics import Metrics
from stillframe.sessions.registry import SessionRegistry
from stillframe.web.http.problems import problem_response
from stillframe.web.middleware.listeners import Listeners, listener_of
from stillframe.web.openapi.builders import CODE_PARAMETER, GUARDED, problem_responses
from stillframe.web.openapi.problem_codes import PROBLEM_CODES
from stillframe.web.openapi.schemas import RecordingStatus, Status
from stillframe.web.service.connections import ConnectionLimiter
from stillframe.web.service.lifecycle import Lifecycle, State
from stillframe.web.service.model_card import ModelCard, ModelList, model_card

_OPEN_METRICS = "application/openmetrics-text"


@dataclass(frozen=True)
class InfoRoutes:
    """The routes and what they read from."""

    lifecycle: Lifecycle
    registry: SessionRegistry
    connections: ConnectionLimiter
    metrics: Metrics
    listeners: Listeners = field(default_factory=dict)

    def routes(self) -> APIRouter:
        """Return the routes, described for /openapi.json."""
        router = APIRouter()
        self._add_health(router)
        guarded, waiting = problem_responses(*GUARDED), problem_responses(*GUARDED, 503)
        text = PlainTextResponse
        router.add_api_route("/metrics", self.scrape, tags=["health"], response_class=text, responses=guarded)
        router.add_api_route("/v1/status", self.status, response_model=Status, tags=["health"], responses=guarded)
        router.add_api_route("/v1/models", self.models, response_model=ModelList, tags=["policy"], responses=waiting)
        router.add_api_route(
            "/v1/models/{name}",
            self.model,
            response_model=ModelCard,
            tags=["policy"],
            responses=problem_responses(*GUARDED, 404, 503),
            openapi_extra={
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
            },
        )
        router.add_api_route(
            "/problems/{code}",
            self.problem,
            tags=["policy"],
            responses=problem_responses(*GUARDED, 404),
            openapi_extra={"parameters": [CODE_PARAMETER]},
        )
        return router

    def _add_health(self, router: APIRouter) -> None:
        waiting = problem_responses(403, 503)
        router.add_api_route("/livez", self.livez, tags=["health"], responses=problem_responses(403))
        router.add_api_route("/readyz", self.readyz, tags=["health"], responses=waiting)
        router.add_api_route("/health", self.readyz, tags=["health"], responses=waiting)
        router.add_api_route(
            "/healthz", self.healthz, tags=["health"], response_class=PlainTextResponse, responses=waiting
        )

    async def livez(self) -> dict[str, str]:
        """Answer 200 as long as the process runs, whatever its state."""
        return {"state": "alive"}

    async def readyz(self, request: Request) -> Response:
        """Answer 200 when frames are taken; else 503 with the state (loading, warming, stuck, draining, failed)."""
        state = self.lifecycle.state
        if state is State.READY:
            return JSONResponse({"state": state.value})
        return problem_response(self.lifecycle.refusal(state), request, state=state.value)

    async def healthz(self, request: Request) -> Response:
        """Answer the text OK when frames are taken, else as /readyz does."""
        if self.lifecycle.state is State.READY:
            return PlainTextResponse("OK\n")
        return await self.readyz(request)

    async def scrape(self, request: Request) -> Response:
        """Return the metrics in Prometheus' text format; in OpenMetrics', with exemplars, to those that ask for it."""
        policy = self.lifecycle.policy
        asked = _OPEN_METRICS in request.headers.get("accept", "")
        encode, media_type = choose_encoder(f"{_OPEN_METRICS}; version=1.0.0" if asked else "")
        text = self.metrics.exposition(
            version=__version__,
            ready=self.lifecycle.state is State.READY,
            info=policy.info if policy else None,
            usage=policy.usage if policy else None,
            sessions=self.registry.counts(),
            sessions_limit=self.registry.capacity if policy else None,
            connections=self.connections.open,
            encode=encode,
        )
        return Response(text, media_type=media_type)

    async def status(self) -> Status:
        """Report the daemon's state, sessions, memory and recording."""
        policy, recording = self.lifecycle.policy, self.lifecycle.recording
        usage = policy.usage if policy else None
        return Status(
            state=self.lifecycle.state.value,
            version=__version__,
            model=policy.info.name if policy else None,
            sessions=dict(self.registry.counts()),
            sessions_limit=self.registry.capacity if policy else None,
            connections=self.connections.open,
            kv_in_use_bytes=usage.in_use_bytes if usage else 0,
            kv_budget_bytes=usage.budget_bytes if usage else 0,
            history_bytes=usage.history_bytes if usage else 0,
            recording=RecordingStatus(**asdict(recording())) if recording else None,
        )

    async def models(self, request: Request) -> ModelList:
        """Say what is served: cameras, action names, units and frame, statistics, precision, start options."""
        return ModelList(models=[model_card(self._info(request))])

    async def model(self, request: Request) -> ModelCard:
        """Say the same of one model, by its name."""
        info = self._info(request)
        if request.path_params["name"] != info.name:
            raise NoSuchRoute("not-found", f"No model of that name is served; this daemon serves {info.name!r}.")
        return model_card(info)

    def _info(self, request: Request) -> PolicyInfo:
        """The PolicyInfo with the start options of the request's port."""
        return listener_of(request.scope, self.listeners).start_options.apply(self.lifecycle.loaded_policy().info)

    async def problem(self, request: Request) -> dict[str, str | int]:
        """Say what a problem's code means."""
        code = request.path_params["code"]
        entry = PROBLEM_CODES.get(code)
        if entry is None:
            raise NoSuchRoute("not-found", f"No problem has this code; the codes are {', '.join(PROBLEM_CODES)}.")
        return {"code": code, "status": entry.status, "meaning": entry.meaning}
