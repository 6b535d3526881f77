"""From where one may ask: the names in Host and Origin, so that no web page reaches a robot through a browser.

A page can make a browser send requests to this machine, or let its own name resolve to it; those two headers show
it. Knows no token; sends no CORS header to anybody.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any

from starlette.datastructures import Headers

from stillframe.errors import Forbidden
from stillframe.web.guard.listeners import Listeners, listener_of

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")


class Origins:
    """Which names are ours. `hosts` are compared without their port, `origins` whole; both in any case of letters."""

    def __init__(
        self,
        listeners: Listeners = MappingProxyType({}),
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
    ):
        self._listeners = listeners
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower() for origin in origins)

    def check(self, connection: Mapping[str, Any], headers: Headers) -> None:
        """Raise Forbidden for a Host that is not ours, or a browser's page that may not ask."""
        if self._hosts or listener_of(connection, self._listeners).loopback:
            self._check_host(headers.getlist("host"))
        for origin in headers.getlist("origin"):
            if origin.lower() not in self._origins:
                raise Forbidden(
                    "forbidden",
                    f"Pages of {reprlib.repr(origin)} may not ask; leave the header Origin away, or have that origin "
                    "added to 'allowed_origins'.",
                )

    def _check_host(self, given: list[str]) -> None:
        """Loopback's own names are always ours: no page has an address whose name is one, but those of this machine."""
        names = [_name_in(host) for host in given]
        if not names or not all(name in self._hosts or _is_loopback(name) for name in names):
            expected = "localhost, 127.0.0.1 or [::1], or a name in 'allowed_hosts'"
            raise Forbidden("forbidden", f"The header Host says {reprlib.repr(', '.join(given))}; expected {expected}.")


def _name_in(host: str) -> str:
    """The name of 'name:port', or nothing."""
    match = _HOST.fullmatch(host.strip())
    return match["name"].lower().removesuffix(".") if match else ""


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return (IPv6Address(name[1:-1]) if name.startswith("[") else IPv4Address(name)).is_loopback
    except ValueError:
        return False
