"""Host and Origin check: no web page may reach a robot through a browser (CSRF, DNS rebinding).

A page can make a browser send requests to this machine, or resolve its own name to it; these headers show that. A name
can be rebound to another machine, an address cannot. Knows no token; sends no CORS header.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, NamedTuple

from starlette.datastructures import Headers

from stillframe.errors import Forbidden
from stillframe.web.middleware.listeners import Listeners, listener_of

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|[^:\[\]/@\s]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
_SCHEMES = {"ws": "http", "wss": "https"}  # a page's Origin names the page's own scheme
_PORTS = {"http": 80, "https": 443}
_LOCAL = "localhost"


class _Origin(NamedTuple):
    """Scheme, lower-case name and port: two origins are the same if all three are."""

    scheme: str
    name: str
    port: int | None


class HostOriginCheck:
    """Allowed names. `hosts` are compared without port, `origins` whole; both ignore case."""

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
        """Raise Forbidden for a Host that is not allowed, or a page of another origin."""
        hosts = headers.getlist("host")
        if self._hosts or listener_of(connection, self._listeners).loopback:
            self._check_hosts(hosts)
        for origin in headers.getlist("origin"):
            if origin.lower() not in self._origins and not self._is_own(origin, hosts, connection.get("scheme")):
                raise Forbidden(
                    "forbidden",
                    f"Pages of {reprlib.repr(origin)} may not ask; leave the header Origin away, ask by the daemon's "
                    "address, or have that origin added to 'allowed_origins'.",
                )

    def _check_hosts(self, given: list[str]) -> None:
        """A request without Host passes: browsers always send one, HTTP/1.0 probes do not."""
        if not all(self._is_ours(_name_in(host)) for host in given):
            said = reprlib.repr(", ".join(given))
            expected = "localhost, an IP address, or a name in 'allowed_hosts'"
            remedy = "Ask by one of these, or have the name added to 'allowed_hosts'."
            raise Forbidden("forbidden", f"The header Host says {said}; expected {expected}. {remedy}")

    def _is_ours(self, name: str) -> bool:
        """Whether the name is allowed. An IP address always is: it cannot be rebound."""
        return name in self._hosts or name == _LOCAL or _is_address(name)

    def _is_own(self, origin: str, hosts: list[str], scheme: str | None) -> bool:
        """Whether a page's origin is the daemon's own address."""
        page_scheme, mark, page = origin.lower().partition("://")
        if not mark or len(hosts) != 1 or not self._is_ours(_name_in(hosts[0])):
            return False
        asked = _SCHEMES.get(scheme or "http", scheme or "http")
        return _origin(page_scheme, page) == _origin(asked, hosts[0].lower())


def _origin(scheme: str, host: str) -> _Origin | str:
    """Parse 'name:port'; text that does not parse equals only itself in that scheme."""
    match = _HOST.fullmatch(host)
    if match is None:
        return f"{scheme}://{host}"
    return _Origin(scheme, match["name"], int(match["port"]) if match["port"] else _PORTS.get(scheme))


def _name_in(host: str) -> str:
    """The name of 'name:port', or nothing."""
    match = _HOST.fullmatch(host.strip())
    return match["name"].lower().removesuffix(".") if match else ""


def _is_address(name: str) -> bool:
    """Whether it is an IPv4 address, or an IPv6 address in brackets."""
    try:
        _ = IPv6Address(name[1:-1]) if name.startswith("[") else IPv4Address(name)
    except ValueError:
        return False
    return True
