"""Messages between the lab and the simulator's process: msgpack over a socket, each with its length before it.

Knows sockets and bytes; no request. Arrays travel as on the daemon's wire, and nothing is ever unpickled.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any

from stillframe_client.errors import WireError
from stillframe_client.wire.packing import pack, unpack

LENGTH = struct.Struct("<I")
MAX_BYTES = 64 * 2**20


def send(to: socket.socket, message: Mapping[str, Any]) -> None:
    """Send one message. Raises OSError where the other side has gone."""
    data = pack(message)
    to.sendall(LENGTH.pack(len(data)) + data)


def receive(source: socket.socket) -> dict[str, Any] | None:
    """The next message; None where the other side has closed between two.

    Raises WireError for what is no message or is cut short, TimeoutError where the socket has a timeout.
    """
    head = _exactly(source, LENGTH.size)
    if not head:
        return None
    (size,) = LENGTH.unpack(head)
    if size > MAX_BYTES:
        raise WireError(f"A message of {size} bytes; at most {MAX_BYTES} are accepted.")
    message = unpack(_exactly(source, size) or b"")
    if not isinstance(message, dict):
        raise WireError(f"A message is of type {type(message).__name__}; expected a map.")
    return message


def _exactly(source: socket.socket, size: int) -> bytes:
    """So many bytes; none where the other side has closed before the first."""
    data = bytearray()
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part and data:
            raise WireError(f"The connection closed after {len(data)} of {size} bytes.")
        if not part:
            return b""
        data += part
    return bytes(data)
