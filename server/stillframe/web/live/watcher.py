"""One watcher's events: the daemon, its sessions once a second, and one session's frames and newest pictures.

Knows what a caller may see by its owner; no request and no ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from stillframe.domain import PolicyInfo
from stillframe.sessions.session import Session
from stillframe.web.live.documents import entry_document
from stillframe.web.live.event_stream import event
from stillframe.web.live.listing import LiveSources, daemon_document, sessions_document
from stillframe.web.service.model_card import model_card

LIST_EVERY_S = 1.0


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
            yield event("sessions", sessions_document(self.sources, self.owner))
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
        model = None if policy is None else model_card(self.as_served(policy.info)).model_dump(mode="json")
        told = daemon_document(self.sources) | {"rate_hz": self.sources.settings.rate_hz, "model": model}
        return event("daemon", told)
