"""One watcher's events: the daemon, its sessions once a second, and one session's frames and newest pictures.

Knows what a caller may see by its owner; no request and no ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from stillframe import __version__
from stillframe.domain import PolicyInfo
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import Session, SessionInfo, session_key
from stillframe.web.live.documents import ended_document, entry_document, session_document
from stillframe.web.live.event_stream import event
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.pictures import PictureEncoder
from stillframe.web.live.settings import LiveSettings
from stillframe.web.service.lifecycle import Lifecycle
from stillframe.web.service.model_card import model_card

LIST_EVERY_S = 1.0
MOST_LISTED, MOST_ENDED = 256, 12  # sessions


@dataclass(frozen=True)
class LiveSources:
    """What watchers read from."""

    lifecycle: Lifecycle
    registry: SessionRegistry
    feed: LiveFeed
    settings: LiveSettings
    in_force: Mapping[str, Any]  # the deployment's settings, without secrets
    encoder: PictureEncoder = field(default_factory=PictureEncoder)


@dataclass
class Watcher:
    """What one caller is sent. Each event says how things stand when it is made; nothing is queued."""

    sources: LiveSources
    owner: str | None  # whose sessions are listed; None: all
    session: Session | None  # the one that is watched
    as_served: Callable[[PolicyInfo], PolicyInfo]  # with the start options of its port
    _state: str | None = None  # the daemon's, as it was told last
    _listed_s: float = float("-inf")
    _read: int = 0  # number of the last entry that was sent
    _shown: int = 0  # number of the last frame whose pictures were sent

    async def events(self, ended: asyncio.Event) -> AsyncGenerator[bytes]:
        """Yield events until `ended` is set."""
        while not ended.is_set():
            for chunk in self._news():
                yield chunk
            picture = await self._picture()
            if picture is not None:
                yield picture
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 1 / self.sources.settings.rate_hz)
        yield self._daemon()

    def _news(self) -> Iterator[bytes]:
        """What has changed, but for pictures."""
        if self._state != self.sources.lifecycle.state.value:
            yield self._daemon()
        if monotonic() - self._listed_s >= LIST_EVERY_S:
            self._listed_s = monotonic()
            yield event("sessions", self._sessions())
        if self.session is not None and not self.session.live:
            yield event("ended", {"id": self.session.id, "owner": self.session.owner, "state": self.session.state})
            self.session = None

    async def _picture(self) -> bytes | None:
        """The watched session's figures, and its newest pictures where they are new; None where neither is."""
        if self.session is None:
            return None
        reading = self.sources.feed.read(self.session.key, self.session.serial, self._read)
        if reading.count < self._read:  # it was forgotten meanwhile, and counts anew
            self._shown = 0
        self._read, newest = reading.count, reading.newest
        told = [entry_document(entry) for entry in reading.entries]
        chunks = [event("frames", told)] if told else []
        if newest is not None and newest.number > self._shown:
            self._shown = newest.number
            chunks.append(event("picture", await self.sources.encoder.json(newest)))
        return b"".join(chunks) or None

    def _daemon(self) -> bytes:
        lifecycle = self.sources.lifecycle
        self._state, policy = lifecycle.state.value, lifecycle.policy
        return event(
            "daemon",
            {
                "state": self._state,
                "version": __version__,
                "rate_hz": self.sources.settings.rate_hz,
                "model": None if policy is None else model_card(self.as_served(policy.info)).model_dump(mode="json"),
                "settings": self.sources.in_force,
            },
        )

    def _sessions(self) -> dict[str, Any]:
        """All that the caller may see, as /v1/sessions says it; and what ended, and the memory in use."""
        registry, policy = self.sources.registry, self.sources.lifecycle.policy
        usage = None if policy is None else policy.usage
        infos = registry.listing(self.owner)
        return {
            "sessions": [self._session(info) for info in infos[:MOST_LISTED]],
            "not_listed": max(0, len(infos) - MOST_LISTED),
            "ended": [ended_document(session) for session in registry.ended(self.owner, MOST_ENDED)],
            "sessions_limit": None if policy is None else registry.capacity,
            "kv_in_use_bytes": usage.in_use_bytes if usage else 0,
            "kv_budget_bytes": usage.budget_bytes if usage else 0,
        }

    def _session(self, info: SessionInfo) -> dict[str, Any]:
        return session_document(info, self.sources.feed.summary(session_key(info.owner, info.id)))
