"""Lets WebSockets in and hands each to those who speak its language.

Knows no message. What nobody foresaw ends one connection with 1011, and is logged.
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
from stillframe.web.service.connections import Hub
from stillframe.web.service.lifecycle import State
from stillframe.web.streaming.connection import Connection
from stillframe.web.streaming.native import Stream, Streaming
from stillframe.web.streaming.openpi import OpenPIConnection
from stillframe_client.wire import FATAL

Talk = Callable[[Connection, Caller, asyncio.Event], Awaitable[None]]


@dataclass(frozen=True)
class StreamRoutes:
    """The WebSocket routes and what they need."""

    streaming: Streaming
    hub: Hub
    listeners: Listeners
    log: Logger

    async def native(self, websocket: WebSocket) -> None:
        """The native stream."""
        await self._let_in(websocket, self._stream)

    async def profiled(self, websocket: WebSocket) -> None:
        """The dialect of the address that the client connected to: openpi's unless the configuration says other."""
        profile = listener_of(websocket.scope, self.listeners).profile
        await self._let_in(websocket, self._openpi(ROBOARENA if profile == ROBOARENA.name else OPENPI))

    async def roboarena(self, websocket: WebSocket) -> None:
        """RoboArena's dialect."""
        await self._let_in(websocket, self._openpi(ROBOARENA))

    async def _stream(self, connection: Connection, caller: Caller, leaving: asyncio.Event) -> None:
        await Stream(self._under_terms(connection), connection, caller, share_of(connection.websocket)).run(leaving)

    def _under_terms(self, connection: Connection) -> Streaming:
        """What a stream needs, with what is fixed for the clients of its port."""
        return replace(self.streaming, terms=listener_of(connection.websocket.scope, self.listeners).terms)

    def _openpi(self, dialect: OpenPI) -> Talk:
        async def talk(connection: Connection, caller: Caller, leaving: asyncio.Event) -> None:
            share = share_of(connection.websocket)
            await OpenPIConnection(self._under_terms(connection), connection, caller, share, dialect).run(leaving)

        return talk

    async def _let_in(self, websocket: WebSocket, talk: Talk) -> None:
        """Hold the conversation, or answer with a problem instead of the upgrade: until then it is an HTTP request."""
        try:
            caller = actor_of(websocket)
            lifecycle = self.streaming.acting.lifecycle
            if lifecycle.state is State.DRAINING:
                raise lifecycle.refusal(State.DRAINING)
            with self.hub.entered(share_of(websocket)) as leaving:
                await self._hold(websocket, talk, caller, leaving)
        except RequestError as error:
            request = Request({**websocket.scope, "type": "http"})
            await websocket.send_denial_response(problem_response(error, request))

    async def _hold(self, websocket: WebSocket, talk: Talk, caller: Caller, leaving: asyncio.Event) -> None:
        connection = Connection(websocket, send_timeout_s=self.streaming.acting.limits.send_timeout_s)
        try:
            await talk(connection, caller, leaving)
        except Exception:
            self.log.exception("connection %s failed", request_id_of(websocket))
            await connection.close(FATAL, "The daemon failed on this connection; its log has the story.")
