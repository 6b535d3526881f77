"""The listener (port) on which a request came: its profile, session and start options.

Knows ports; not what a profile means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillframe.web.middleware.start_options import StartOptions


@dataclass(frozen=True)
class Listener:
    """Settings of one port."""

    profile: str = "native"  # the clients it is for, by the configuration's names
    session: str | None = None  # the session of frames that name none; None: stateless
    loopback: bool = True  # only this machine reaches it
    start_options: StartOptions = field(default_factory=StartOptions)  # of its clients


Listeners = Mapping[int, Listener]  # by port


def listener_of(connection: Mapping[str, Any], listeners: Listeners) -> Listener:
    """Return the listener that took `connection`: a request, a WebSocket, or the scope of one."""
    _, port = connection.get("server") or ("", None)
    return Listener() if port is None else listeners.get(port, Listener())
