"""WebSocket routes: admit a connection and run its wire's handler.

Knows no message. An unexpected error closes that connection with 1011 and is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from logging import Logger

from starlette.requests import Request
from starlette.websockets import WebSocket

from stillframe.errors import RequestError
from stillframe.web.dialects.openpi import OPENPI, ROBOARENA, OpenPI
from stillframe.web.http.problems import problem_response, request_id_of
from stillframe.web.middleware.access import actor_of, share_of
from stillframe.web.middleware.auth import Caller
from stillframe.web.middleware.listeners import Listeners, listener_of
from stillframe.web.service.connections import ConnectionLimiter
from stillframe.web.service.lifecycle import State
from stillframe.web.streaming.connection import Connection
from stillframe.web.streaming.native import NativeStream, StreamContext
from stillframe.web.streaming.openpi import OpenPIStream
from stillframe_client.wire import FATAL

StreamHandler = Callable[[Connection, Caller, asyncio.Event], Awaitable[None]]


@dataclass(frozen=True)
class StreamRoutes:
    """The WebSocket routes and what they need."""

    context: StreamContext
    connections: ConnectionLimiter
    listeners: Listeners
    log: Logger

    async def native(self, websocket: WebSocket) -> None:
        """Serve the native stream."""
        await self._admit(websocket, self._stream)

    async def profiled(self, websocket: WebSocket) -> None:
        """Serve the dialect of the port: openpi's unless the configuration sets another profile."""
        profile = listener_of(websocket.scope, self.listeners).profile
        await self._admit(websocket, self._openpi(ROBOARENA if profile == ROBOARENA.name else OPENPI))

    async def roboarena(self, websocket: WebSocket) -> None:
        """Serve RoboArena's dialect."""
        await self._admit(websocket, self._openpi(ROBOARENA))

    async def _stream(self, connection: Connection, caller: Caller, draining: asyncio.Event) -> None:
        stream = NativeStream(self._context(connection), connection, caller, share_of(connection.websocket))
        await stream.run(draining)

    def _context(self, connection: Connection) -> StreamContext:
        """What a stream needs, with the start options of its port."""
        options = listener_of(connection.websocket.scope, self.listeners).start_options
        return replace(self.context, start_options=options)

    def _openpi(self, dialect: OpenPI) -> StreamHandler:
        async def serve(connection: Connection, caller: Caller, draining: asyncio.Event) -> None:
            share = share_of(connection.websocket)
            await OpenPIStream(self._context(connection), connection, caller, share, dialect).run(draining)

        return serve

    async def _admit(self, websocket: WebSocket, serve: StreamHandler) -> None:
        """Serve the connection, or answer the upgrade request with a problem."""
        try:
            caller = actor_of(websocket)
            lifecycle = self.context.inference.lifecycle
            if lifecycle.state is State.DRAINING:
                raise lifecycle.refusal(State.DRAINING)
            with self.connections.admit(share_of(websocket)) as draining:
                await self._serve(websocket, serve, caller, draining)
        except RequestError as error:
            request = Request({**websocket.scope, "type": "http"})
            await websocket.send_denial_response(problem_response(error, request))

    async def _serve(self, websocket: WebSocket, serve: StreamHandler, caller: Caller, draining: asyncio.Event) -> None:
        connection = Connection(websocket, send_timeout_s=self.context.inference.limits.send_timeout_s)
        try:
            await serve(connection, caller, draining)
        except Exception:
            self.log.exception("connection %s failed", request_id_of(websocket))
            await connection.close(FATAL, "The daemon failed on this connection; its log has the story.")
