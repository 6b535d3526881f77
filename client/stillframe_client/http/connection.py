"""Asks one request of a daemon and reads its whole reply, within the call's time and size.

Knows no frame and no JSON. What fails on the way is a PolicyError, whatever the library or Python itself calls it.
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
_CUT = ("disconnected", "closed")  # in the words for a reply that never came, or not to its end
_AS_IT_IS = ("", "identity")  # the encodings of a body that is not compressed


class HttpConnection:
    """One daemon, asked over one kept-alive connection."""

    def __init__(self, http: httpx.Client, url: str, limits: CallLimits):
        self._http = http
        self._url = url
        self._limits = limits
        self._has_connected = False  # something has answered there

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

        `twice`: it does no harm if the daemon does it twice, or it knows a repeat; then it is sent once more where the
        connection died before a byte of the reply came. Raises PolicyErrors only.
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
        """Send it once more. A repeat that comes to nothing is told as what happened first."""
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
        """All of it. Raises BadReply for one that is compressed, or larger than any answer."""
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
        """Turn the HTTP library's failures, and Python's own, into ours."""
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
        except Exception as error:  # what no daemon sends: the library, or Python, refuses it in words of its own
            raise BadReply(f"What {self._url} sent cannot be read as HTTP ({type(error).__name__}).") from error

    def _protocol_error(self, error: httpx.RemoteProtocolError) -> PolicyError:
        """The peer broke HTTP's rules: by going away, or by speaking something else."""
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
    """JSON of what was checked before."""
    text: str = json.dumps(fields, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def headers_of_all(token: Mapping[str, str]) -> Dict[str, str]:
    """What goes with every request: the token, and that no reply is to be compressed."""
    return {**token, "Accept-Encoding": "identity"}
