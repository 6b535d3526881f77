"""An httpcore network backend whose every wait ends at the call's deadline.

Knows no HTTP. httpcore's own backend bounds each read and write by itself, so that a peer that sends a byte a second
holds a call for ever.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import Any, Iterable, Iterator, List, Optional, Type

import httpcore

from stillframe_client.errors import Unreachable
from stillframe_client.http.limits import CallLimits, TimeLimitReached

_READ_BYTES = 64 * 2**10
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake: never the beginning of an HTTP reply


class BoundedStream(httpcore.NetworkStream):
    """One connection."""

    def __init__(self, sock: socket.socket, limits: CallLimits):
        self._sock = sock
        self._limits = limits

    def read(self, max_bytes: int, timeout: Optional[float] = None) -> bytes:
        """Receive bytes; none: the peer has closed. Raises BadReply beyond the largest reply."""
        with _failures(httpcore.ReadTimeout, httpcore.ReadError):
            self._sock.settimeout(_least(self._limits, timeout))
            data = self._sock.recv(min(max_bytes, _READ_BYTES))
        if self._limits.reply_bytes == 0 and data[:2] in _TLS_RECORDS and not isinstance(self._sock, ssl.SSLSocket):
            raise Unreachable("What answers there speaks TLS, not plain HTTP: use https:// in the address.")
        self._limits.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: Optional[float] = None) -> None:
        """Send all of it."""
        rest = memoryview(buffer)
        with _failures(httpcore.WriteTimeout, httpcore.WriteError):
            while rest:
                self._sock.settimeout(_least(self._limits, timeout))
                rest = rest[self._sock.send(rest) :]

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: Optional[str] = None, timeout: Optional[float] = None
    ) -> httpcore.NetworkStream:
        """Start TLS."""
        try:
            with _failures(httpcore.ConnectTimeout, httpcore.ConnectError):
                self._sock.settimeout(_least(self._limits, timeout))
                sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
        except BaseException:
            self.close()
            raise
        return BoundedStream(sock, self._limits)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a stream."""
        asked: Any = {
            "socket": lambda: self._sock,
            "client_addr": self._sock.getsockname,
            "server_addr": self._sock.getpeername,
            "ssl_object": lambda: self._sock if isinstance(self._sock, ssl.SSLSocket) else None,
            "is_readable": lambda: _is_readable(self._sock),
        }
        return asked[info]() if info in asked else None


class BoundedBackend(httpcore.NetworkBackend):
    """Opens connections."""

    def __init__(self, limits: CallLimits):
        self._limits = limits

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Optional[float] = None,
        local_address: Optional[str] = None,  # noqa: ARG002 (httpcore's; never given)
        socket_options: Optional[Iterable[Any]] = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers, without delaying small packets."""
        with _failures(httpcore.ConnectTimeout, httpcore.ConnectError):
            addresses = _addresses(host, port, _least(self._limits, timeout))
            sock = self._first(addresses, timeout)
        for option in socket_options or ():
            sock.setsockopt(*option)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return BoundedStream(sock, self._limits)

    def _first(self, addresses: List[Any], timeout: Optional[float]) -> socket.socket:
        """Try each address for its share of the remaining time. Raises the last one's OSError."""
        failure: OSError = OSError("the name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(_least(self._limits, timeout) / (len(addresses) - tried))
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure


def _addresses(host: str, port: int, remaining_s: float) -> List[Any]:
    """Resolve the name in a thread: the system's resolver has no timeout. Raises OSError and socket.timeout."""
    found: List[Any] = []

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # a label that is too long is a UnicodeError
            found.append(error)

    thread = threading.Thread(target=look, name="stillframe-resolver", daemon=True)
    thread.start()
    thread.join(remaining_s)
    if not found:
        raise socket.timeout
    if isinstance(found[0], Exception):
        raise OSError(str(found[0])) from found[0]
    addresses: List[Any] = found[0]
    return addresses


def _least(limits: CallLimits, timeout: Optional[float]) -> float:
    remaining_s = limits.remaining_s()
    return remaining_s if timeout is None else min(remaining_s, timeout)


def _is_readable(sock: socket.socket) -> bool:
    """Whether an idle socket has data or was closed by the peer; for descriptors of any number."""
    if sock.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


@contextlib.contextmanager
def _failures(timed_out: Type[Exception], broke: Type[Exception]) -> Iterator[None]:
    """Raise the system's errors as httpcore's."""
    try:
        yield
    except (TimeLimitReached, socket.timeout) as error:
        raise timed_out("out of time") from error
    except OSError as error:
        raise broke(str(error)) from error
