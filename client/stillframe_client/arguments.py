"""Checks arguments before anything is opened: addresses, timeouts, tokens.

Knows no connection. Errors give an example; a token never appears in one.
"""

from __future__ import annotations

import math
import ssl
from typing import Any, Dict, Optional

import httpx

STREAM_PATH = "/v1/stream"
_HTTP_EXAMPLE = "something like 'http://127.0.0.1:8000'"
_STREAM_EXAMPLE = "something like 'ws://127.0.0.1:8000' or 'http://127.0.0.1:8000'"
_AS_HTTP = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
_AS_WEBSOCKET = {"http": "ws", "https": "wss"}
_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where to connect, not where to listen


def base_url(url: str) -> str:
    """Return an http address without a slash at its end. Raises ValueError."""
    parsed = _parsed(url, _HTTP_EXAMPLE)
    if parsed.scheme not in ("http", "https"):
        raise ValueError(f"url is {url!r}; expected {_HTTP_EXAMPLE}.")
    return str(_reachable(parsed)).rstrip("/")


def stream_url(url: str) -> str:
    """Return the address of a daemon's stream, ws:// or wss://, for the daemon's own. Raises ValueError."""
    parsed = _parsed(url, _STREAM_EXAMPLE)
    if parsed.scheme not in _AS_HTTP:
        raise ValueError(f"url is {url!r}; expected {_STREAM_EXAMPLE}.")
    http = _AS_HTTP[parsed.scheme]
    base = str(_reachable(parsed).copy_with(scheme=http)).rstrip("/")
    base = base[: -len(STREAM_PATH)] if base.endswith(STREAM_PATH) else base
    return _AS_WEBSOCKET[http] + base[len(http) :] + STREAM_PATH


def seconds(name: str, value: Any) -> float:
    """Return a timeout in seconds. Raises ValueError for anything but a finite number above 0."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {value!r}; expected seconds above zero: waiting for ever is not offered.")
    return float(value)


def one_of(name: str, value: str, choices: Any) -> str:
    """Return `value` if it is one of `choices`. Raises ValueError."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")
    return value


def bearer(token: Optional[str]) -> Dict[str, str]:
    """Return the Authorization header; empty without a token. Raises ValueError."""
    if token is None:
        return {}
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise ValueError("token is not one: expected printable ASCII without spaces, as `stillframe token` prints it.")
    return {"Authorization": f"Bearer {token}"}


def trust(ca_file: Optional[str]) -> Optional[ssl.SSLContext]:
    """Return a TLS context with the certificates of a PEM file; None: the system's."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file is {ca_file!r}; expected a PEM file with the daemon's certificate.") from error


def daemon_url(stream: str) -> str:
    """Return the daemon's own address, as far as it shows in that of a stream: without any path."""
    return str(httpx.URL(stream).copy_with(path="/", query=None, fragment=None)).rstrip("/")


def _reachable(url: httpx.URL) -> httpx.URL:
    """Replace a wildcard address, which is for listening, by this machine's."""
    return url.copy_with(host=_THIS_MACHINE[url.host]) if url.host in _THIS_MACHINE else url


def _parsed(url: str, example: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        whole = (
            bool(parsed.host)
            and not (parsed.query or parsed.fragment)
            and parsed.port != 0
            and (parsed.port or 1) < 65536
        )
    except (httpx.InvalidURL, TypeError, ValueError) as error:  # a UnicodeError is a ValueError
        raise ValueError(f"url is {url!r:.200}; expected {example}.") from error
    if not whole:
        raise ValueError(f"url is {url!r:.200}; expected {example}.")
    return parsed
