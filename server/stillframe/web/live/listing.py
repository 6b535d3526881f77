"""How a daemon and its sessions stand, as documents: for the feed's events, and whole for one request.

Knows what may be seen by its owner; no request, no event and no picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillframe import __version__
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import SessionInfo, session_key
from stillframe.web.live.documents import Document, ended_document, latest_document, session_document
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.pictures import PictureEncoder
from stillframe.web.live.settings import LiveSettings
from stillframe.web.service.lifecycle import Lifecycle

MOST_LISTED, MOST_ENDED = 256, 12  # sessions


@dataclass(frozen=True)
class LiveSources:
    """What is shown is read from here."""

    lifecycle: Lifecycle
    registry: SessionRegistry
    feed: LiveFeed
    settings: LiveSettings
    in_force: Mapping[str, Any]  # the deployment's settings, without secrets
    encoder: PictureEncoder = field(default_factory=PictureEncoder)


def daemon_document(sources: LiveSources) -> Document:
    """The daemon's state, version and settings in force."""
    return {"state": sources.lifecycle.state.value, "version": __version__, "settings": sources.in_force}


def sessions_document(sources: LiveSources, owner: str | None) -> Document:
    """An owner's sessions, as /v1/sessions says it, what ended, and the memory in use; None: all owners'."""
    registry, policy = sources.registry, sources.lifecycle.policy
    usage = None if policy is None else policy.usage
    infos = registry.listing(owner)
    return {
        "sessions": [_session(sources.feed, info) for info in infos[:MOST_LISTED]],
        "not_listed": max(0, len(infos) - MOST_LISTED),
        "ended": [ended_document(session) for session in registry.ended(owner, MOST_ENDED)],
        "sessions_limit": None if policy is None else registry.capacity,
        "kv_in_use_bytes": usage.in_use_bytes if usage else 0,
        "kv_budget_bytes": usage.budget_bytes if usage else 0,
    }


def snapshot_document(sources: LiveSources, owner: str | None) -> Document:
    """Both, with the newest frame of each session; null for one that had none."""
    told = sessions_document(sources, owner)
    latest = [sources.feed.latest(session_key(one["owner"], one["id"])) for one in told["sessions"]]
    sessions = [
        one | {"latest": None if newest is None else latest_document(newest)}
        for one, newest in zip(told["sessions"], latest, strict=True)
    ]
    return daemon_document(sources) | told | {"sessions": sessions}


def _session(feed: LiveFeed, info: SessionInfo) -> Document:
    return session_document(info, feed.summary(session_key(info.owner, info.id)))
