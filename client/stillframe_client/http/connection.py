"""Sends one request to a daemon and reads its whole reply, within the call's limits.

Knows no frame. Every failure is raised as a PolicyError, whatever httpx or Python calls it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Optional

import httpx

from stillframe_client.errors import BadReply, PolicyError, TimedOut, Unreachable
from stillframe_client.http.limits import CallLimits, TimeLimitReached, check_size
from stillframe_client.http.tls import tls_failure, untrusted

_BROKE = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
_CUT = ("disconnected", "closed")  # words of httpx's error for a reply that was cut off
_AS_IT_IS = ("", "identity")  # the encodings of a body that is not compressed


class HttpConnection:
    """A kept-alive connection to one daemon."""

    def __init__(self, http: httpx.Client, url: str, limits: CallLimits):
        self._http = http
        self._url = url
        self._limits = limits
        self._has_connected = False  # a reply has come

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        fields: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        idempotent: bool = False,
    ) -> httpx.Response:
        """Return the reply, its body read: all within `timeout_s`. `fields` go as JSON.

        An `idempotent` request is sent once more where the connection broke before the first byte of the reply. Raises
        PolicyErrors only.
        """
        if self._http.is_closed:
            raise PolicyError("This client is closed; make a new one.")
        self._limits.begin_call(timeout_s)
        content = None if fields is None else _written(fields)
        told = {**(headers or {}), **({} if content is None else {"Content-Type": "application/json"})}
        with self._as_policy_errors(timeout_s):
            request = self._http.build_request(method, path, content=content, headers=told, timeout=timeout_s)
        try:
            return self._send(request, timeout_s)
        except Unreachable as broke:
            if not (idempotent and isinstance(broke.__cause__, _BROKE) and self._limits.reply_bytes == 0):
                raise
            return self._resend(request, timeout_s, broke)

    def _resend(self, request: httpx.Request, timeout_s: float, broke: Unreachable) -> httpx.Response:
        """Send it once more; if that fails too, the error names the first failure."""
        self._limits.begin_reply()
        try:
            return self._send(request, timeout_s)
        except (Unreachable, TimedOut) as error:
            raise Unreachable(f"{broke} It was sent once more, in vain: {error}") from error

    def _send(self, request: httpx.Request, timeout_s: float) -> httpx.Response:
        with self._as_policy_errors(timeout_s):
            reply = self._http.send(request, stream=True, follow_redirects=False)
            try:
                body = self._body(reply)
            finally:
                reply.close()
            self._has_connected = True
            plain = [(name, value) for name, value in reply.headers.raw if name.lower() not in _FRAMING]
            return httpx.Response(reply.status_code, headers=plain, content=body, request=request)

    def _body(self, reply: httpx.Response) -> bytes:
        """The whole body. Raises BadReply for one that is compressed or too large."""
        encoding = reply.headers.get("content-encoding", "").strip().lower()
        if encoding not in _AS_IT_IS:
            raise BadReply(
                f"The reply is compressed ({encoding[:40]!r}), though only plain ones were asked for; "
                f"is {self._url} a stillframe daemon, or does a proxy before it compress?"
            )
        if reply.is_stream_consumed:  # a transport of the caller's may have read it
            check_size(len(reply.content))
            return reply.content
        parts: List[bytes] = []
        n_bytes = 0
        for part in reply.iter_raw():
            n_bytes += len(part)
            check_size(n_bytes)
            parts.append(part)
            self._limits.remaining_s()
        return b"".join(parts)

    @contextmanager
    def _as_policy_errors(self, timeout_s: float) -> Iterator[None]:
        """Raise httpx's and Python's errors as PolicyErrors."""
        try:
            yield
        except PolicyError:
            raise
        except httpx.ConnectTimeout as error:
            raise Unreachable(f"No connection to {self._url} within {timeout_s} s: check the address.") from error
        except (httpx.TimeoutException, TimeLimitReached) as error:
            raise TimedOut(f"No answer from {self._url} within {timeout_s} s: raise timeout_s.") from error
        except httpx.ConnectError as error:
            handshake = tls_failure(error)
            if handshake is not None:
                raise Unreachable(untrusted(handshake, self._url)) from error
            message = f"Nothing answers at {self._url}: is the daemon running (`stillframe serve`), is the port right?"
            raise Unreachable(message) from error
        except httpx.RemoteProtocolError as error:
            raise self._protocol_error(error) from error
        except httpx.TransportError as error:
            raise Unreachable(self._broken_text()) from error
        except httpx.HTTPError as error:
            raise PolicyError(f"The exchange with {self._url} failed: {type(error).__name__}.") from error
        except Exception as error:  # input that the library or Python rejects
            raise BadReply(f"What {self._url} sent cannot be read as HTTP ({type(error).__name__}).") from error

    def _protocol_error(self, error: httpx.RemoteProtocolError) -> PolicyError:
        """The error for a peer that broke the HTTP protocol: it disconnected, or speaks something else."""
        if self._limits.reply_bytes == 0 or any(word in str(error) for word in _CUT):
            return Unreachable(self._broken_text())
        return BadReply(f"What answers at {self._url} does not speak HTTP ({str(error)[:80]}): check the URL.")

    def _broken_text(self) -> str:
        tls = (
            ""
            if self._has_connected or not self._url.startswith("http://")
            else " If its port speaks TLS, use https://."
        )
        return f"The connection to {self._url} broke before the answer: is the daemon up?{tls}"


_FRAMING = (b"transfer-encoding", b"content-length", b"content-encoding")  # of the body on its way


def _written(fields: Mapping[str, Any]) -> bytes:
    """Encode checked fields as JSON."""
    text: str = json.dumps(fields, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def headers_of_all(token: Mapping[str, str]) -> Dict[str, str]:
    """Headers of every request: the token, and no compression."""
    return {**token, "Accept-Encoding": "identity"}
