"""Messages of the native stream, in and out, in msgpack or JSON.

Knows no session's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from stillframe import __version__
from stillframe.domain import PolicyInfo
from stillframe.errors import RequestError
from stillframe.stopwatch import Stopwatch
from stillframe.web.dialects.native import BINARY_NATIVE, JSON_NATIVE
from stillframe.web.http.limits import Limits
from stillframe.web.http.parsing import Fields, parse_json, parse_msgpack
from stillframe.web.http.problems import problem_document, request_id_of
from stillframe.web.http.session_fields import RequestAddress, is_clock_ns
from stillframe.web.service.frame_parser import FrameParser, ParsedFrame
from stillframe.web.service.model_card import model_card
from stillframe.web.streaming.connection import Connection, Message
from stillframe_client.wire import JSON, MAX_COUNT, MSGPACK, is_session_id

MessagePosition = Mapping[str, Any]  # which frame of which session a message is about

TRACE_FIELDS = ("traceparent", "tracestate")  # W3C Trace Context
_COUNTS = ("epoch", "seq")


class MessageSender:
    """Sends one connection's messages. Any send may raise Disconnected."""

    def __init__(self, connection: Connection, path: str, *, binary: bool):
        self._connection = connection
        self._path = path
        self.binary = binary  # of messages that answer none

    async def send(self, message: Mapping[str, Any], *, binary: bool | None = None) -> None:
        """Send one message: msgpack in a binary frame, or JSON in a text frame. Raises WireError."""
        codec = MSGPACK if (self.binary if binary is None else binary) else JSON
        await self._connection.send(codec.dump(message))

    async def refuse(self, error: RequestError, place: MessagePosition, *, binary: bool | None = None) -> None:
        """Answer a message with a problem (or `superseded`), and its position."""
        message: dict[str, Any]
        if error.code == "superseded":
            message = {"type": "superseded", **place, "by": getattr(error, "by", None)}
        else:
            request_id = request_id_of(self._connection.websocket)
            document = problem_document(error, request_id=request_id, instance=self._path)
            message = {"type": "problem", "problem": document, **place}
        await self.send(message, binary=binary)

    async def hello(self, info: PolicyInfo, limits: Limits, state: str) -> None:
        """Send the server's version, state, model card and limits."""
        bounds = {
            "max_message_bytes": limits.max_body_bytes,
            "max_images": limits.max_images,
            "max_image_pixels": limits.max_image_pixels,
            "max_instruction_bytes": limits.max_instruction_bytes,
            "default_max_age_ms": limits.default_max_age_ms,
        }
        model = model_card(info).model_dump(mode="json")
        server = f"stillframe/{__version__}"
        await self.send(
            {"type": "hello", "protocol": 1, "server": server, "state": state, "model": model, "limits": bounds}
        )


def position_of(fields: Mapping[str, Any]) -> MessagePosition:
    """Return the valid parts of a message's session, epoch, seq and clock: the client matches the answer by these."""
    place: dict[str, Any] = {}
    session_id, stamp = fields.get("session_id"), fields.get("t_obs_ns")
    if is_session_id(session_id):
        counts = {name: fields[name] for name in _COUNTS if _is_count(fields.get(name))}
        place["session"] = {"id": session_id, **counts}
    if is_clock_ns(stamp):
        place["t_obs_ns"] = stamp
    return place


def trace_headers(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return what a message says of the trace that it belongs to, as W3C's headers do of a request; nothing: none."""
    said = {name: fields[name] for name in TRACE_FIELDS if isinstance(fields.get(name), str)}
    return said if TRACE_FIELDS[0] in said else {}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


@dataclass(frozen=True)
class IncomingMessage:
    """A received message: its fields, its raw data, and a stopwatch since its arrival."""

    fields: Fields
    data: Message
    watch: Stopwatch

    @property
    def binary(self) -> bool:
        """Whether it is msgpack, and so is its answer."""
        return isinstance(self.data, bytes)


def parse(data: Message, max_parts: int) -> Fields:
    """Parse a message into fields. Raises BadRequest."""
    return parse_json(data, max_parts) if isinstance(data, str) else parse_msgpack(data, max_parts)


def read_frame(parser: FrameParser, message: IncomingMessage) -> ParsedFrame:
    """Parse fields into a frame. Raises RequestError."""
    data = message.data.encode() if isinstance(message.data, str) else message.data
    dialect = BINARY_NATIVE if message.binary else JSON_NATIVE
    return parser.parse(message.fields, dialect, RequestAddress(), blake2b(data, digest_size=16).digest())
