"""Through which door a request came: what each listening port is for.

Knows ports; not what a profile means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillframe.web.middleware.terms import Terms


@dataclass(frozen=True)
class Listener:
    """What listens on one port."""

    profile: str = "native"  # whose clients come in here, by the names of the configuration
    session: str | None = None  # whose frames are those that name no session; None: nobody's
    loopback: bool = True  # only this machine reaches it
    terms: Terms = field(default_factory=Terms)  # what is fixed for those who come in here


Listeners = Mapping[int, Listener]  # by port


def listener_of(connection: Mapping[str, Any], listeners: Listeners) -> Listener:
    """Return the listener that took `connection`: a request, a WebSocket, or the scope of one."""
    _, port = connection.get("server") or ("", None)
    return Listener() if port is None else listeners.get(port, Listener())
