"""The configuration as the web room takes it: limits, callers, rates, listeners, and each port's terms.

Knows the configuration and the web room's settings; opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from stillframe.daemon.config import DaemonConfig, ListenerSettings
from stillframe.daemon.sockets import BoundSocket
from stillframe.web.app import WebSettings
from stillframe.web.http.limits import Limits
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.middleware.origins import HostOriginCheck
from stillframe.web.middleware.rate_limit import RateLimiter
from stillframe.web.middleware.start_options import StartOptions


def web_settings(config: DaemonConfig, sockets: Sequence[BoundSocket]) -> WebSettings:
    """Limits, callers, rates and listeners as configured; `sockets`: as bound, the daemon's own first."""
    listeners = {
        bound.port: replace(bound.listener, start_options=terms)
        for bound, (_, terms) in zip(sockets, port_terms(config), strict=False)
    }
    return WebSettings(
        limits=Limits(
            max_body_bytes=round(config.max_body_mib * 2**20),
            max_image_pixels=config.max_image_pixels,
            default_max_age_ms=config.default_max_age_ms,
        ),
        sessions=config.sessions,
        authenticator=Authenticator(
            Token(token.name, token.sha256, frozenset(token.scopes)) for token in config.tokens
        ),
        origins=HostOriginCheck(listeners, hosts=config.allowed_hosts, origins=config.allowed_origins),
        frame_limiter=RateLimiter(config.frames_per_s),
        request_limiter=RateLimiter(None if config.one_caller else config.requests_per_s, burst_s=0.5, of="requests"),
        listeners=listeners,
        drain_s=config.drain_s,
        live=config.live,
        in_force=settings_in_force(config),
    )


def settings_in_force(config: DaemonConfig) -> dict[str, Any]:
    """What holds for every caller, to be shown to any of them: no token, no path, no address."""
    shown = ("dtype", "threads", "queue_frames", "frames_per_s", "default_max_age_ms", "watchdog_s")
    sections = ("reuse", "decoding", "batching", "history", "graphs", "sessions", "live")
    return {name: getattr(config, name) for name in shown} | {name: asdict(getattr(config, name)) for name in sections}


def port_terms(config: DaemonConfig) -> Iterator[tuple[str, StartOptions]]:
    """The terms of each port, the daemon's own first, each with the section that sets them."""
    own = StartOptions(
        "native",
        config.unnorm_key,
        config.cameras or {},
        config.center_crop,
        config.default_instruction,
        config.openpi_metadata or {},
    )
    yield "the configuration", own
    for at, listener in enumerate(config.listeners):
        yield f"listeners.{at}", _terms_of(listener, own)


def _terms_of(listener: ListenerSettings, own: StartOptions) -> StartOptions:
    """The terms of an extra listener; what it leaves out is the daemon's."""
    return StartOptions(
        listener.profile,
        own.unnorm_key if listener.unnorm_key is None else listener.unnorm_key,
        own.cameras if listener.cameras is None else listener.cameras,
        own.center_crop if listener.center_crop is None else listener.center_crop,
        own.default_instruction if listener.default_instruction is None else listener.default_instruction,
        own.openpi_metadata if listener.openpi_metadata is None else listener.openpi_metadata,
    )
